-- As the view leaderboard, which it is made for, of the present form of experiments and of earlier ones.
-- Grain and key: form, dataset, data_fingerprint, method, config_id, split, selection. Units: see there.
CREATE VIEW leaderboard_by_form AS
WITH beside AS (
  SELECT form, dataset, data_fingerprint, method, method_version, config_id, config, split, selection,
    MIN(n) OVER line AS n, n_planned, seeds_failed, MAX(seeds_nan) OVER line AS seeds_nan,
    MAX(CASE WHEN metric = 'average_accuracy' THEN mean END) OVER line AS average_accuracy,
    MAX(CASE WHEN metric = 'average_accuracy' THEN std END) OVER line AS average_accuracy_std,
    MAX(CASE WHEN metric = 'average_accuracy' THEN ci_low END) OVER line AS average_accuracy_ci_low,
    MAX(CASE WHEN metric = 'average_accuracy' THEN ci_high END) OVER line AS average_accuracy_ci_high,
    MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN mean END) OVER line AS adjusted_average_accuracy,
    MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN std END) OVER line AS adjusted_average_accuracy_std,
    MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN ci_low END) OVER line AS adjusted_average_accuracy_ci_low,
    MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN ci_high END) OVER line AS adjusted_average_accuracy_ci_high,
    MAX(CASE WHEN metric = 'worst_group_accuracy' THEN mean END) OVER line AS worst_group_accuracy,
    MAX(CASE WHEN metric = 'worst_group_accuracy' THEN std END) OVER line AS worst_group_accuracy_std,
    MAX(CASE WHEN metric = 'worst_group_accuracy' THEN ci_low END) OVER line AS worst_group_accuracy_ci_low,
    MAX(CASE WHEN metric = 'worst_group_accuracy' THEN ci_high END) OVER line AS worst_group_accuracy_ci_high,
    n_failed, warning, on_failed, ROW_NUMBER() OVER line AS nth
  FROM score_by_form
  WHERE group_name = 'all'
    AND metric IN ('average_accuracy', 'adjusted_average_accuracy', 'worst_group_accuracy')
  WINDOW line AS (PARTITION BY config_id, split, selection, method, dataset, form, data_fingerprint)
)
SELECT form, dataset, data_fingerprint, method, method_version, config_id, config, split, selection, n,
  n_planned, seeds_failed, seeds_nan,
  average_accuracy, average_accuracy_std, average_accuracy_ci_low, average_accuracy_ci_high,
  adjusted_average_accuracy, adjusted_average_accuracy_std, adjusted_average_accuracy_ci_low, adjusted_average_accuracy_ci_high,
  worst_group_accuracy, worst_group_accuracy_std, worst_group_accuracy_ci_low, worst_group_accuracy_ci_high,
  n_failed, warning, on_failed
FROM beside WHERE nth = 1
