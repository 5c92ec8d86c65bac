-- The knobs that vary within an experiment's method, and its variants (parameter 'variant').
-- Grain and key: experiment, form, dataset, data_fingerprint, method, method_version, parameter. Units:
-- values_lost counts values of the knob without a done trial. Trials that ended count: done, failed, stopped.
-- data_fingerprint is 'drawn anew' for knobs of a generator, whose every value is other data.
CREATE VIEW varying_knob AS
SELECT e.experiment, e.form, t.dataset, CASE WHEN SUBSTR(p.name, 1, 10) = 'generator.' THEN 'drawn anew' ELSE t.data_fingerprint END AS data_fingerprint,
  t.method, t.method_version, p.name AS parameter,
  COUNT(DISTINCT p.value) - COUNT(DISTINCT CASE WHEN t.status = 'done' THEN p.value END) AS values_lost
FROM asked_trial e
JOIN trial t ON t.id = e.trial_id AND t.status IN ('done', 'failed', 'stopped')
JOIN trial_param p ON p.trial_id = t.id AND p.name <> 'seed'
GROUP BY e.experiment, e.form, t.dataset, CASE WHEN SUBSTR(p.name, 1, 10) = 'generator.' THEN 'drawn anew' ELSE t.data_fingerprint END,
  t.method, t.method_version, p.name
HAVING MIN(p.value) < MAX(p.value)
UNION ALL
SELECT e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version, CAST('variant' AS VARCHAR),
  COUNT(DISTINCT e.variant) - COUNT(DISTINCT CASE WHEN t.status = 'done' THEN e.variant END)
FROM asked_trial e
JOIN trial t ON t.id = e.trial_id AND t.status IN ('done', 'failed', 'stopped')
WHERE e.variant IS NOT NULL
GROUP BY e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version
HAVING MIN(e.variant) < MAX(e.variant)
