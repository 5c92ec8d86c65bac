-- Every configuration with its scores over seeds, all experiments of the store together.
-- Grain and key: dataset, data_fingerprint, method, config_id, split, selection.
-- Units: accuracies are fractions; n_failed is the largest number of images that a trial could not
-- score. n is the number of seeds (the smallest over the three metrics, where one is missing);
-- intervals are 95-percent t-intervals over seeds, NULL for one seed.
CREATE VIEW leaderboard AS
WITH by_seed AS (
  SELECT t.dataset, t.data_fingerprint, t.method, t.config_id, m.split, m.selection,
    m.name AS metric, t.seed, MIN(t.config) AS config, MIN(t.method_version) AS method_version,
    AVG(m.value) AS score,
    AVG(m.value) - AVG(AVG(m.value)) OVER (PARTITION BY t.dataset, t.data_fingerprint, t.method,
      t.config_id, m.split, m.selection, m.name) AS deviation,
    MAX(t.n_failed) AS n_failed, MIN(t.on_failed) AS on_failed_low, MAX(t.on_failed) AS on_failed_high
  FROM trial t
  JOIN metric m ON m.trial_id = t.id AND m.step IS NULL AND m.value IS NOT NULL
  WHERE t.status = 'done' AND m.group_name = 'all'
    AND m.name IN ('average_accuracy', 'adjusted_average_accuracy', 'worst_group_accuracy')
  GROUP BY t.dataset, t.data_fingerprint, t.method, t.config_id, m.split, m.selection, m.name, t.seed
), summary AS (
  SELECT dataset, data_fingerprint, method, config_id, split, selection, metric,
    MIN(config) AS config, MIN(method_version) AS method_version, COUNT(*) AS n,
    AVG(score) AS mean, SQRT(SUM(deviation * deviation) / NULLIF(COUNT(*) - 1, 0)) AS std,
    MAX(n_failed) AS n_failed, MIN(on_failed_low) AS on_failed_low,
    MAX(on_failed_high) AS on_failed_high
  FROM by_seed
  GROUP BY dataset, data_fingerprint, method, config_id, split, selection, metric
), ranged AS (
  SELECT summary.*, mean - t * std / SQRT(n) AS low, mean + t * std / SQRT(n) AS high
  FROM summary LEFT JOIN student_t ON n - 1 BETWEEN df_low AND df_high
)
SELECT dataset, data_fingerprint, method, MIN(method_version) AS method_version, config_id,
  MIN(config) AS config, split, selection, MIN(n) AS n,
  MAX(CASE WHEN metric = 'average_accuracy' THEN mean END) AS average_accuracy,
  MAX(CASE WHEN metric = 'average_accuracy' THEN std END) AS average_accuracy_std,
  MAX(CASE WHEN metric = 'average_accuracy' THEN low END) AS average_accuracy_ci_low,
  MAX(CASE WHEN metric = 'average_accuracy' THEN high END) AS average_accuracy_ci_high,
  MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN mean END) AS adjusted_average_accuracy,
  MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN std END)
    AS adjusted_average_accuracy_std,
  MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN low END)
    AS adjusted_average_accuracy_ci_low,
  MAX(CASE WHEN metric = 'adjusted_average_accuracy' THEN high END)
    AS adjusted_average_accuracy_ci_high,
  MAX(CASE WHEN metric = 'worst_group_accuracy' THEN mean END) AS worst_group_accuracy,
  MAX(CASE WHEN metric = 'worst_group_accuracy' THEN std END) AS worst_group_accuracy_std,
  MAX(CASE WHEN metric = 'worst_group_accuracy' THEN low END) AS worst_group_accuracy_ci_low,
  MAX(CASE WHEN metric = 'worst_group_accuracy' THEN high END) AS worst_group_accuracy_ci_high,
  MAX(n_failed) AS n_failed,
  CASE WHEN MIN(on_failed_low) = MAX(on_failed_high) THEN MIN(on_failed_low) ELSE 'mixed' END
    AS on_failed
FROM ranged
GROUP BY dataset, data_fingerprint, method, config_id, split, selection
