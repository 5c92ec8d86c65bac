-- As the view leaderboard, which it is made for, of the present form of experiments and of earlier ones.
-- Grain and key: form, dataset, data_fingerprint, method, config_id, split, selection. Units: see there.
CREATE VIEW leaderboard_by_form AS
SELECT form, dataset, data_fingerprint, method, MIN(method_version) AS method_version, config_id,
  MIN(config) AS config, split, selection, MIN(n) AS n,
  MAX(n_planned) AS n_planned, MAX(seeds_failed) AS seeds_failed, MAX(seeds_nan) AS seeds_nan,
  MAX(CASE WHEN metric = 'average_accuracy' THEN mean END) AS average_accuracy,
  MAX(CASE WHEN metric = 'average_accuracy' THEN std END) AS average_accuracy_std,
  MAX(CASE WHEN metric = 'average_accuracy' THEN ci_low END) AS average_accuracy_ci_low,
  MAX(CASE WHEN metric = 'average_accuracy' THEN ci_high END) AS average_accuracy_ci_high,
  MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN mean END) AS adjusted_average_accuracy,
  MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN std END) AS adjusted_average_accuracy_std,
  MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN ci_low END) AS adjusted_average_accuracy_ci_low,
  MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN ci_high END) AS adjusted_average_accuracy_ci_high,
  MAX(CASE WHEN metric = 'worst_group_accuracy' THEN mean END) AS worst_group_accuracy,
  MAX(CASE WHEN metric = 'worst_group_accuracy' THEN std END) AS worst_group_accuracy_std,
  MAX(CASE WHEN metric = 'worst_group_accuracy' THEN ci_low END) AS worst_group_accuracy_ci_low,
  MAX(CASE WHEN metric = 'worst_group_accuracy' THEN ci_high END) AS worst_group_accuracy_ci_high,
  MAX(n_failed) AS n_failed, MAX(warning) AS warning,
  CASE WHEN MIN(on_failed) <> MAX(on_failed) THEN 'mixed' ELSE MIN(on_failed) END AS on_failed
FROM score_by_form
WHERE group_name = 'all'
  AND metric IN ('average_accuracy', 'adjusted_average_accuracy', 'worst_group_accuracy')
GROUP BY form, dataset, data_fingerprint, method, config_id, split, selection
