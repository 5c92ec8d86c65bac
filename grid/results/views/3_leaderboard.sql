-- Every configuration with its scores over seeds, all experiments of the store together.
-- Grain and key: dataset, data_fingerprint, method, config_id, split, selection.
-- Units: accuracies are fractions; n_failed is the largest number of images that a trial could not
-- score. n is the number of seeds (the smallest over the three metrics, where one is missing);
-- intervals are 95-percent t-intervals over seeds, NULL for one seed.
CREATE VIEW leaderboard AS
SELECT dataset, data_fingerprint, method, MIN(method_version) AS method_version, config_id,
  MIN(config) AS config, split, selection, MIN(n) AS n,
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
  MAX(n_failed) AS n_failed,
  CASE WHEN MIN(on_failed) = MAX(on_failed) THEN MIN(on_failed) ELSE 'mixed' END AS on_failed
FROM score
WHERE group_name = 'all'
  AND metric IN ('average_accuracy', 'adjusted_average_accuracy', 'worst_group_accuracy')
GROUP BY dataset, data_fingerprint, method, config_id, split, selection
