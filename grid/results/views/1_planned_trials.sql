-- How many trials with one value of a knob were planned, how many failed, and were stopped early.
-- Grain and key: experiment, form, dataset, data_fingerprint, method, method_version, parameter, value.
-- Units: n_planned counts seeds, the others trials; values_ended: values of the knob whose trials ended.
CREATE VIEW planned_trials AS
SELECT e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version,
  p.name AS parameter, p.value, COUNT(DISTINCT t.seed) AS n_planned,
  SUM(CASE WHEN t.status = 'done' THEN 1 ELSE 0 END) AS trials_done,
  SUM(CASE WHEN t.status = 'failed' THEN 1 ELSE 0 END) AS trials_failed,
  SUM(CASE WHEN t.status = 'stopped' THEN 1 ELSE 0 END) AS trials_stopped,
  SUM(MAX(CASE WHEN t.status IN ('done', 'failed', 'stopped') THEN 1 ELSE 0 END)) OVER (
    PARTITION BY e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version, p.name
  ) AS values_ended
FROM asked_trial e
JOIN trial t ON t.id = e.trial_id
JOIN trial_param p ON p.trial_id = t.id AND p.name <> 'seed'
GROUP BY e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version, p.name, p.value
