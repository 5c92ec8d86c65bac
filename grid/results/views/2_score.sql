-- Every final number of every configuration over seeds, all experiments of the store together.
-- Grain and key: dataset, data_fingerprint, method, config_id, metric, split, group_name, selection.
-- Units: those of the metric; n_failed is the largest number of images that a trial could not score.
-- n is the number of seeds; intervals are 95-percent t-intervals over seeds, NULL for one seed.
CREATE VIEW score AS
WITH by_seed AS (
  SELECT t.dataset, t.data_fingerprint, t.method, t.config_id, m.name AS metric, m.split, m.group_name,
    m.selection, t.seed, MIN(t.config) AS config, MIN(t.method_version) AS method_version,
    AVG(m.value) AS value,
    AVG(m.value) - AVG(AVG(m.value)) OVER (PARTITION BY t.dataset, t.data_fingerprint, t.method,
      t.config_id, m.name, m.split, m.group_name, m.selection) AS deviation,
    MAX(t.n_failed) AS n_failed, MIN(t.on_failed) AS on_failed_low, MAX(t.on_failed) AS on_failed_high
  FROM trial t
  JOIN metric m ON m.trial_id = t.id AND m.step IS NULL AND m.value IS NOT NULL
  WHERE t.status = 'done'
  GROUP BY t.dataset, t.data_fingerprint, t.method, t.config_id, m.name, m.split, m.group_name,
    m.selection, t.seed
), summary AS (
  SELECT dataset, data_fingerprint, method, config_id, metric, split, group_name, selection,
    MIN(config) AS config, MIN(method_version) AS method_version, COUNT(*) AS n,
    AVG(value) AS mean, SQRT(SUM(deviation * deviation) / NULLIF(COUNT(*) - 1, 0)) AS std,
    MAX(n_failed) AS n_failed,
    CASE WHEN MIN(on_failed_low) = MAX(on_failed_high) THEN MIN(on_failed_low) ELSE 'mixed' END
      AS on_failed
  FROM by_seed
  GROUP BY dataset, data_fingerprint, method, config_id, metric, split, group_name, selection
)
SELECT summary.*, mean - t * std / SQRT(n) AS ci_low, mean + t * std / SQRT(n) AS ci_high
FROM summary LEFT JOIN student_t ON n - 1 BETWEEN df_low AND df_high
