-- How many seeds of a configuration were planned, over all experiments, and how many of them failed.
-- Grain and key: dataset, data_fingerprint, method, config_id, form. Units: seeds; seeds_done have a trial
-- that is done, seeds_failed one that failed. form: 'present' if an experiment asks for the trial now.
CREATE VIEW planned_seeds AS
WITH formed AS (
  SELECT trial.*, CASE WHEN EXISTS (SELECT 1 FROM experiment_trial e WHERE e.trial_id = trial.id)
    THEN 'present' ELSE 'earlier' END AS form
  FROM trial
)
SELECT dataset, data_fingerprint, method, config_id, form, MIN(config) AS config,
  MIN(method_version) AS method_version, COUNT(DISTINCT seed) AS n_planned,
  COUNT(DISTINCT CASE WHEN status = 'done' THEN seed END) AS seeds_done,
  COUNT(DISTINCT CASE WHEN status = 'failed' THEN seed END) AS seeds_failed
FROM formed
GROUP BY dataset, data_fingerprint, method, config_id, form
