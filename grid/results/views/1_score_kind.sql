-- Which numbers a method reports on a data set: those of one trial that is done, else its accuracies.
-- Grain and key: dataset, method, metric, split, group_name, selection. Units: none.
CREATE VIEW score_kind AS
WITH example AS (
  SELECT dataset, method, MIN(id) AS id FROM trial WHERE status = 'done' GROUP BY dataset, method
), usual (metric, split) AS (VALUES
  ('worst_group_accuracy', 'test'), ('average_accuracy', 'test'), ('adjusted_average_accuracy', 'test'),
  ('worst_group_accuracy', 'val'), ('average_accuracy', 'val'), ('adjusted_average_accuracy', 'val')
)
SELECT DISTINCT e.dataset, e.method, m.name AS metric, m.split, m.group_name, m.selection
FROM example e
JOIN metric m ON m.trial_id = e.id AND m.step IS NULL
UNION ALL
SELECT DISTINCT t.dataset, t.method, u.metric, u.split, 'all', 'last'
FROM trial t
CROSS JOIN usual u
WHERE t.status = 'failed' AND NOT EXISTS (
  SELECT 1 FROM trial d WHERE d.dataset = t.dataset AND d.method = t.method AND d.status = 'done')
