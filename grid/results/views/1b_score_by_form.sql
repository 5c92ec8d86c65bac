-- As the view score, which it is made for, of the present form of experiments and of earlier ones.
-- Grain and key: form, dataset, data_fingerprint, method, config_id, metric, split, group_name, selection.
-- Units: see score. A configuration whose seeds all failed has a row with n = 0 for each usual number.
CREATE VIEW score_by_form AS
WITH formed AS (
  SELECT trial.*, CASE WHEN EXISTS (SELECT 1 FROM experiment_trial e WHERE e.trial_id = trial.id)
    THEN 'present' ELSE 'earlier' END AS form
  FROM trial WHERE status = 'done'
), by_seed AS (
  SELECT t.form, t.dataset, t.data_fingerprint, t.method, t.config_id, m.name AS metric, m.split,
    m.group_name, m.selection, t.seed, MIN(t.config) AS config, MIN(t.method_version) AS method_version,
    AVG(m.value) AS value,
    AVG(m.value) - AVG(AVG(m.value)) OVER (PARTITION BY t.form, t.dataset, t.data_fingerprint, t.method,
      t.config_id, m.name, m.split, m.group_name, m.selection) AS deviation,
    MAX(t.n_failed) AS n_failed, MAX(t.warning) AS warning, MIN(t.on_failed) AS on_failed_low, MAX(t.on_failed) AS on_failed_high
  FROM formed t
  JOIN metric m ON m.trial_id = t.id AND m.step IS NULL
  GROUP BY t.form, t.dataset, t.data_fingerprint, t.method, t.config_id, m.name, m.split, m.group_name,
    m.selection, t.seed
), summary AS (
  SELECT form, dataset, data_fingerprint, method, config_id, metric, split, group_name, selection,
    MIN(config) AS config, MIN(method_version) AS method_version, COUNT(value) AS n,
    COUNT(*) - COUNT(value) AS seeds_nan, AVG(value) AS mean,
    SQRT(SUM(deviation * deviation) / NULLIF(COUNT(value) - 1, 0)) AS std,
    MAX(n_failed) AS n_failed, MAX(warning) AS warning,
    CASE WHEN MIN(on_failed_low) = MAX(on_failed_high) THEN MIN(on_failed_low) ELSE 'mixed' END
      AS on_failed
  FROM by_seed
  GROUP BY form, dataset, data_fingerprint, method, config_id, metric, split, group_name, selection
)
SELECT s.form, s.dataset, s.data_fingerprint, s.method, s.config_id, s.metric, s.split, s.group_name,
  s.selection, s.config, s.method_version, s.n, p.n_planned, p.seeds_failed, s.seeds_nan, s.mean, s.std,
  s.n_failed, s.on_failed, s.warning, s.mean - t * s.std / SQRT(s.n) AS ci_low, s.mean + t * s.std / SQRT(s.n) AS ci_high
FROM summary s
JOIN planned_seeds p ON p.form = s.form AND p.dataset = s.dataset
  AND p.data_fingerprint = s.data_fingerprint AND p.method = s.method AND p.config_id = s.config_id
LEFT JOIN student_t ON s.n - 1 BETWEEN df_low AND df_high
UNION ALL
SELECT p.form, p.dataset, p.data_fingerprint, p.method, p.config_id, k.metric, k.split, k.group_name,
  k.selection, p.config, p.method_version, 0, p.n_planned, p.seeds_failed, 0, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL
FROM planned_seeds p
JOIN score_kind k ON k.dataset = p.dataset AND k.method = p.method
WHERE p.seeds_done = 0 AND p.seeds_failed > 0
