-- The knobs that vary within an experiment's method.
-- Grain and key: experiment, form, dataset, data_fingerprint, method, method_version, parameter. Units:
-- values_lost counts values of the knob without a done trial. Trials that ended count: done, failed, stopped.
CREATE VIEW varying_knob AS
SELECT e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version, p.name AS parameter,
  COUNT(DISTINCT p.value) - COUNT(DISTINCT CASE WHEN t.status = 'done' THEN p.value END) AS values_lost
FROM asked_trial e
JOIN trial t ON t.id = e.trial_id AND t.status IN ('done', 'failed', 'stopped')
JOIN trial_param p ON p.trial_id = t.id AND p.name <> 'seed'
GROUP BY e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version, p.name
HAVING MIN(p.value) < MAX(p.value)
