-- As planned_of_knob, of the variants of an experiment's blocks (parameter 'variant').
-- Grain and key: experiment, form, dataset, data_fingerprint, method, method_version, value. Units: see there.
-- parameter has the form that it has, since Postgres takes no condition on a plain text through a window, and
-- none into a UNION of two types.
CREATE VIEW planned_of_variant AS
SELECT e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version,
  CASE WHEN e.variant IS NOT NULL THEN CAST('variant' AS VARCHAR) END AS parameter, e.variant AS value,
  COUNT(DISTINCT t.seed) AS n_planned, SUM(CASE WHEN t.status = 'done' THEN 1 ELSE 0 END) AS trials_done,
  SUM(CASE WHEN t.status = 'failed' THEN 1 ELSE 0 END) AS trials_failed,
  SUM(CASE WHEN t.status = 'stopped' THEN 1 ELSE 0 END) AS trials_stopped,
  SUM(MAX(CASE WHEN t.status IN ('done', 'failed', 'stopped') THEN 1 ELSE 0 END)) OVER (
    PARTITION BY e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version,
      CASE WHEN e.variant IS NOT NULL THEN CAST('variant' AS VARCHAR) END) AS values_ended
FROM asked_trial e
JOIN trial t ON t.id = e.trial_id
WHERE e.variant IS NOT NULL
GROUP BY e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version,
  CASE WHEN e.variant IS NOT NULL THEN CAST('variant' AS VARCHAR) END, e.variant
