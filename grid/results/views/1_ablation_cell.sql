-- The scores that ablations are made of: all knobs that vary within an experiment's method.
-- Grain and key: experiment, form, dataset, data_fingerprint, method, method_version, parameter, value,
-- rest, seed, metric, split, group_name, selection. Units: those of the metric; `trials` counts those
-- whose metric is a number, `trials_nan` the others; values_lost: values of the knob without a done trial.
-- Done trials and final numbers only; score is NULL where no trial has a number.
CREATE VIEW ablation_cell AS
WITH knob AS (
  SELECT e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version, p.name,
    COUNT(DISTINCT p.value) - COUNT(DISTINCT CASE WHEN t.status = 'done' THEN p.value END) AS values_lost
  FROM asked_trial e
  JOIN trial t ON t.id = e.trial_id AND t.status IN ('done', 'failed')
  JOIN trial_param p ON p.trial_id = t.id AND p.name <> 'seed'
  GROUP BY e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version, p.name
  HAVING MIN(p.value) < MAX(p.value)
)
SELECT e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version,
  p.name AS parameter, p.value, MIN(p.number) AS number, p.rest, t.seed,
  m.name AS metric, m.split, m.group_name, m.selection, MIN(knob.values_lost) AS values_lost,
  AVG(m.value) AS score, COUNT(m.value) AS trials, COUNT(*) - COUNT(m.value) AS trials_nan,
  MIN(t.on_failed) AS on_failed_low, MAX(t.on_failed) AS on_failed_high, MAX(t.warning) AS warning
FROM asked_trial e
JOIN trial t ON t.id = e.trial_id AND t.status = 'done'
JOIN trial_param p ON p.trial_id = t.id
JOIN knob ON knob.experiment = e.experiment AND knob.form = e.form AND knob.dataset = t.dataset
  AND knob.data_fingerprint = t.data_fingerprint AND knob.method = t.method
  AND knob.method_version = t.method_version AND knob.name = p.name
JOIN metric m ON m.trial_id = t.id AND m.step IS NULL
GROUP BY e.experiment, e.form, t.dataset, t.data_fingerprint, t.method, t.method_version, p.name, p.value,
  p.rest, t.seed, m.name, m.split, m.group_name, m.selection
