-- Published numbers beside ours, one row for each of our configurations of that method.
-- Grain and key: paper, table_name, row_name, setting, dataset, method, metric, config_id (NULL where
-- nothing was measured). Units: accuracies are fractions on both sides.
CREATE VIEW reported_vs_measured AS
SELECT r.paper, r.table_name, r.row_name, r.setting, r.dataset, r.method, r.metric, r.split,
  r.group_name, r.selection, r.value AS reported, r.std AS reported_std, r.n AS reported_n,
  m.config_id, m.config, m.n, m.n_planned, m.seeds_failed, m.seeds_nan,
  m.mean AS measured, m.std AS measured_std, m.ci_low, m.ci_high,
  m.mean - r.value AS difference, m.on_failed, m.warning
FROM reference_result r
LEFT JOIN score m ON m.dataset = r.dataset AND m.method = r.method AND m.metric = r.metric
  AND m.split = r.split AND m.selection = r.selection AND m.group_name = r.group_name
