-- Every trial with its form, and what is known of all seeds of its configuration.
-- Grain and key: id. Units: n_planned, seeds_done, seeds_failed and seeds_stopped count seeds, of all experiments.
-- form: 'present' if an experiment asks for the trial now, else 'earlier'. example: one of the configuration's
-- trials, of that form. n_failed, warning and on_failed ('mixed': not alike) are of those that are done.
CREATE VIEW planned_trial AS
WITH formed AS (
  SELECT CASE WHEN EXISTS (SELECT 1 FROM experiment_trial e WHERE e.trial_id = trial.id)
      THEN 'present' ELSE 'earlier' END AS form,
    id, config_id, method, dataset, data_fingerprint, seed, status,
    CASE WHEN status = 'done' THEN n_failed END AS n_failed,
    CASE WHEN status = 'done' THEN on_failed END AS on_failed,
    CASE WHEN status = 'done' THEN warning END AS warning
  FROM trial
), of_seed AS (
  SELECT formed.*, ROW_NUMBER() OVER of_seed AS nth,
    MAX(CASE WHEN status = 'done' THEN 1 ELSE 0 END) OVER of_seed AS seed_done,
    MAX(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) OVER of_seed AS seed_failed,
    MAX(CASE WHEN status = 'stopped' THEN 1 ELSE 0 END) OVER of_seed AS seed_stopped
  FROM formed
  WINDOW of_seed AS (PARTITION BY config_id, form, method, dataset, data_fingerprint, seed)
)
SELECT id, form, config_id, method, dataset, data_fingerprint, seed, status, MIN(id) OVER config AS example,
  SUM(CASE WHEN nth = 1 THEN 1 ELSE 0 END) OVER config AS n_planned,
  SUM(CASE WHEN nth = 1 THEN seed_done ELSE 0 END) OVER config AS seeds_done,
  SUM(CASE WHEN nth = 1 THEN seed_failed ELSE 0 END) OVER config AS seeds_failed,
  SUM(CASE WHEN nth = 1 THEN seed_stopped ELSE 0 END) OVER config AS seeds_stopped,
  MAX(n_failed) OVER config AS n_failed, MAX(warning) OVER config AS warning,
  CASE WHEN MIN(on_failed) OVER config = MAX(on_failed) OVER config THEN MIN(on_failed) OVER config
    WHEN MIN(on_failed) OVER config IS NOT NULL THEN 'mixed' END AS on_failed
FROM of_seed
WINDOW config AS (PARTITION BY config_id, form, method, dataset, data_fingerprint)
