-- As the view score, which it is made for, of the present form of experiments and of earlier ones.
-- Grain and key: form, dataset, data_fingerprint, method, config_id, metric, split, group_name, selection.
-- Units: see score. A configuration whose seeds all failed has a row with n = 0 for each usual number.
-- Windows stand where GROUP BY would: SQLite takes a condition on the key through them to the tables.
CREATE VIEW score_by_form AS
WITH by_seed AS (
  SELECT t.config_id, m.name AS metric, m.group_name, m.split, m.selection, t.method, t.dataset, t.form,
    t.seed, AVG(m.value) AS value, MIN(t.example) AS example, MIN(t.n_planned) AS n_planned,
    MIN(t.seeds_failed) AS seeds_failed, MIN(t.seeds_stopped) AS seeds_stopped, MIN(t.n_failed) AS n_failed, MIN(t.on_failed) AS on_failed,
    MIN(t.warning) AS warning
  FROM planned_trial t
  JOIN metric m ON m.trial_id = t.id AND m.step IS NULL
  WHERE t.status = 'done'
  GROUP BY t.config_id, m.name, m.group_name, m.split, m.selection, t.method, t.dataset, t.form, t.seed
), centred AS (
  SELECT by_seed.*, value - AVG(value) OVER (PARTITION BY config_id, metric, group_name, split, selection, method, dataset,
    form) AS deviation
  FROM by_seed
), over_seeds AS (
  SELECT config_id, metric, group_name, split, selection, method, dataset, form, example, n_planned,
    seeds_failed, seeds_stopped, n_failed, on_failed, warning, COUNT(value) OVER line AS n, COUNT(*) OVER line AS seeds_done,
    AVG(value) OVER line AS mean, SUM(deviation * deviation) OVER line AS squares, ROW_NUMBER() OVER line AS nth
  FROM centred
  WINDOW line AS (PARTITION BY config_id, metric, group_name, split, selection, method, dataset,
    form)
), summary AS (
  SELECT over_seeds.*, SQRT(squares / NULLIF(n - 1, 0)) AS std FROM over_seeds WHERE nth = 1
), spread AS (
  SELECT summary.*, t * std / SQRT(n) AS half,
    REPLACE(REPLACE(REPLACE(REPLACE(metric, 'accuracy', ''), '_iou', ''), '_precision', ''), '_f1', '') <> metric AS is_fraction
  FROM summary
  LEFT JOIN student_t ON n - 1 BETWEEN df_low AND df_high
), scaled AS (
  SELECT spread.*,
    CASE WHEN is_fraction AND half < 26 * mean * (1 - mean) THEN EXP(-half / (mean * (1 - mean))) END AS shrink
  FROM spread
)
SELECT s.form, s.dataset, x.data_fingerprint, s.method, s.config_id, s.metric, s.split, s.group_name,
  s.selection, x.config, x.method_version, s.n, s.n_planned, s.seeds_failed, s.seeds_stopped, s.seeds_done - s.n AS seeds_nan,
  s.mean, s.std, s.n_failed, s.on_failed, s.warning,
  COALESCE(s.mean * shrink / (s.mean * shrink + 1 - s.mean), s.mean - half) AS ci_low,
  COALESCE(s.mean / (s.mean + (1 - s.mean) * shrink), s.mean + half) AS ci_high,
  (SELECT MIN(a.variant) FROM asked_trial a WHERE a.trial_id = s.example AND a.form = s.form) AS variant
FROM scaled s
JOIN trial x ON x.id = s.example
UNION ALL
SELECT p.form, p.dataset, p.data_fingerprint, p.method, p.config_id, k.metric, k.split, k.group_name,
  k.selection, x.config, x.method_version, 0, p.n_planned, p.seeds_failed, p.seeds_stopped, 0, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL, (SELECT MIN(a.variant) FROM asked_trial a WHERE a.trial_id = p.example AND a.form = p.form)
FROM planned_trial p
JOIN trial x ON x.id = p.example
JOIN score_kind k ON k.dataset = p.dataset AND k.method = p.method
WHERE p.id = p.example AND p.seeds_done = 0 AND p.seeds_failed > 0
