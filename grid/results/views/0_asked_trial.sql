-- Which trials an experiment asks for in its present form, or asked for in an earlier one.
-- Grain and key: experiment, trial_id. Units: none; form is 'present' or 'earlier'.
CREATE VIEW asked_trial AS
SELECT experiment, trial_id, 'present' AS form FROM experiment_trial
UNION ALL
SELECT experiment, trial_id, 'earlier' AS form FROM earlier_trial
