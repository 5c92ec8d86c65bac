-- The scores that ablations over knobs are made of: all that vary within an experiment's method.
-- Grain and key: experiment, form, dataset, data_fingerprint, method, method_version, parameter, value,
-- rest, seed, metric, split, group_name, selection. Units: those of the metric; `trials` counts those
-- whose metric is a number, `trials_nan` the others; values_lost: values of the knob without a done trial.
-- Done trials and final numbers only; score is NULL where no trial has a number.
-- Windows stand where GROUP BY would: SQLite takes a condition on the key through them to the tables.
CREATE VIEW knob_cell AS
WITH number AS (
  SELECT e.experiment, e.form, t.dataset, knob.data_fingerprint, t.method, t.method_version, p.name AS parameter, p.value,
    MIN(p.number) OVER cell AS number, p.rest, t.seed,
    m.name AS metric, m.split, m.group_name, m.selection, knob.values_lost,
    AVG(m.value) OVER cell AS score, COUNT(m.value) OVER cell AS trials,
    COUNT(*) OVER cell - COUNT(m.value) OVER cell AS trials_nan,
    MIN(t.on_failed) OVER cell AS on_failed_low, MAX(t.on_failed) OVER cell AS on_failed_high,
    MAX(t.warning) OVER cell AS warning, ROW_NUMBER() OVER cell AS nth
  FROM asked_trial e
  JOIN trial t ON t.id = e.trial_id AND t.status = 'done'
  JOIN trial_param p ON p.trial_id = t.id
  JOIN varying_knob knob ON knob.experiment = e.experiment AND knob.form = e.form AND knob.dataset = t.dataset
    AND knob.data_fingerprint = CASE WHEN SUBSTR(p.name, 1, 10) = 'generator.' THEN 'drawn anew' ELSE t.data_fingerprint END
    AND knob.method = t.method
    AND knob.method_version = t.method_version AND knob.parameter = p.name
  JOIN metric m ON m.trial_id = t.id AND m.step IS NULL
  WINDOW cell AS (PARTITION BY e.experiment, e.form, t.dataset, knob.data_fingerprint, t.method, t.method_version, p.name, p.value,
    p.rest, t.seed, m.name, m.split, m.group_name, m.selection)
)
SELECT experiment, form, dataset, data_fingerprint, method, method_version, parameter, value, number, rest, seed,
  metric, split, group_name, selection, values_lost, score, trials, trials_nan, on_failed_low, on_failed_high,
  warning
FROM number WHERE nth = 1
