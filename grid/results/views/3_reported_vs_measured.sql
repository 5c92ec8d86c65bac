-- Published numbers beside ours, one row for each of our configurations of that method.
-- Grain and key: paper, table_name, row_name, setting, dataset, method, metric, config_id (NULL where
-- nothing was measured). Units: accuracies are fractions on both sides. The statistics are those of the
-- view score, made here from the published numbers' trials alone.
CREATE VIEW reported_vs_measured AS
WITH asked AS (
  SELECT r.*, t.id, t.config_id, t.seed, t.status, t.example, t.n_planned, t.seeds_done, t.seeds_failed, t.seeds_stopped,
    t.on_failed, t.warning
  FROM reference_result r
  JOIN planned_trial t ON t.dataset = r.dataset AND t.method = r.method AND t.form = 'present'
), by_seed AS (
  SELECT a.paper, a.table_name, a.row_name, a.setting, a.dataset, a.method, a.metric, a.config_id, a.seed,
    MIN(a.example) AS example, MIN(a.n_planned) AS n_planned, MIN(a.seeds_failed) AS seeds_failed, MIN(a.seeds_stopped) AS seeds_stopped,
    MIN(a.on_failed) AS on_failed, MIN(a.warning) AS warning, AVG(m.value) AS value
  FROM asked a
  JOIN metric m ON m.trial_id = a.id AND m.step IS NULL AND m.name = a.metric AND m.split = a.split
    AND m.selection = a.selection AND m.group_name = a.group_name
  WHERE a.status = 'done'
  GROUP BY a.paper, a.table_name, a.row_name, a.setting, a.dataset, a.method, a.metric, a.config_id, a.seed
), centred AS (
  SELECT by_seed.*, value - AVG(value) OVER (PARTITION BY paper, table_name, row_name, setting, dataset,
    method, metric, config_id) AS deviation
  FROM by_seed
), measured AS (
  SELECT paper, table_name, row_name, setting, dataset, method, metric, MIN(example) AS example,
    COUNT(value) AS n, MIN(n_planned) AS n_planned, MIN(seeds_failed) AS seeds_failed, MIN(seeds_stopped) AS seeds_stopped,
    COUNT(*) - COUNT(value) AS seeds_nan, AVG(value) AS mean,
    SQRT(SUM(deviation * deviation) / NULLIF(COUNT(value) - 1, 0)) AS std, MIN(on_failed) AS on_failed,
    MIN(warning) AS warning
  FROM centred
  GROUP BY paper, table_name, row_name, setting, dataset, method, metric, config_id
  UNION ALL
  SELECT a.paper, a.table_name, a.row_name, a.setting, a.dataset, a.method, a.metric, a.example,
    0, a.n_planned, a.seeds_failed, a.seeds_stopped, 0, NULL, NULL, NULL, NULL
  FROM asked a
  JOIN score_kind k ON k.dataset = a.dataset AND k.method = a.method AND k.metric = a.metric
    AND k.split = a.split AND k.selection = a.selection AND k.group_name = a.group_name
  WHERE a.id = a.example AND a.seeds_done = 0 AND a.seeds_failed > 0
), spread AS (
  SELECT measured.*, t * std / SQRT(n) AS half,
    REPLACE(REPLACE(REPLACE(REPLACE(metric, 'accuracy', ''), '_iou', ''), '_precision', ''), '_f1', '') <> metric AS is_fraction
  FROM measured
  LEFT JOIN student_t ON n - 1 BETWEEN df_low AND df_high
), scaled AS (
  SELECT spread.*,
    CASE WHEN is_fraction AND half < 26 * mean * (1 - mean) THEN EXP(-half / (mean * (1 - mean))) END AS shrink
  FROM spread
)
SELECT r.paper, r.table_name, r.row_name, r.setting, r.dataset, r.method, r.metric, r.split,
  r.group_name, r.selection, r.value AS reported, r.std AS reported_std, r.n AS reported_n,
  x.config_id, x.config, m.n, m.n_planned, m.seeds_failed, m.seeds_stopped, m.seeds_nan,
  m.mean AS measured, m.std AS measured_std,
  COALESCE(m.mean * shrink / (m.mean * shrink + 1 - m.mean), m.mean - half) AS ci_low,
  COALESCE(m.mean / (m.mean + (1 - m.mean) * shrink), m.mean + half) AS ci_high,
  m.mean - r.value AS difference, m.on_failed, m.warning, r.knobs AS reported_knobs, r.images AS reported_images
FROM reference_result r
LEFT JOIN scaled m ON m.paper = r.paper AND m.table_name = r.table_name AND m.row_name = r.row_name
  AND m.setting = r.setting AND m.dataset = r.dataset AND m.method = r.method AND m.metric = r.metric
LEFT JOIN trial x ON x.id = m.example
