-- Which trials an experiment asks for in its present form, or asked for in an earlier one.
-- Grain and key: experiment, trial_id. Units: none; form is 'present' or 'earlier'. variant: as which of its
-- block's variants, by name; variant_rest: what it shares with trials that differ from it in that alone.
CREATE VIEW asked_trial AS
SELECT experiment, trial_id, variant, variant_rest, 'present' AS form FROM experiment_trial
UNION ALL
SELECT experiment, trial_id, variant, variant_rest, 'earlier' AS form FROM earlier_trial
