-- How many trials with one value of a knob were planned, and how many of them failed or were stopped early.
-- Grain and key: experiment, form, dataset, data_fingerprint, method, method_version, parameter, value.
-- Units: n_planned counts seeds, the others trials; values_ended: values of the knob whose trials ended.
-- data_fingerprint is 'drawn anew' for knobs of a generator, whose every value is other data.
CREATE VIEW planned_of_knob AS
SELECT e.experiment, e.form, t.dataset, CASE WHEN SUBSTR(p.name, 1, 10) = 'generator.' THEN 'drawn anew' ELSE t.data_fingerprint END AS data_fingerprint,
  t.method, t.method_version, p.name AS parameter, p.value, COUNT(DISTINCT t.seed) AS n_planned,
  SUM(CASE WHEN t.status = 'done' THEN 1 ELSE 0 END) AS trials_done,
  SUM(CASE WHEN t.status = 'failed' THEN 1 ELSE 0 END) AS trials_failed,
  SUM(CASE WHEN t.status = 'stopped' THEN 1 ELSE 0 END) AS trials_stopped,
  SUM(MAX(CASE WHEN t.status IN ('done', 'failed', 'stopped') THEN 1 ELSE 0 END)) OVER (
    PARTITION BY e.experiment, e.form, t.dataset, CASE WHEN SUBSTR(p.name, 1, 10) = 'generator.' THEN 'drawn anew' ELSE t.data_fingerprint END,
    t.method, t.method_version, p.name
  ) AS values_ended
FROM asked_trial e
JOIN trial t ON t.id = e.trial_id
JOIN trial_param p ON p.trial_id = t.id AND p.name <> 'seed'
GROUP BY e.experiment, e.form, t.dataset, CASE WHEN SUBSTR(p.name, 1, 10) = 'generator.' THEN 'drawn anew' ELSE t.data_fingerprint END,
  t.method, t.method_version, p.name, p.value
