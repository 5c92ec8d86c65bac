-- Every final number of every configuration over seeds, all experiments of the store together.
-- Grain and key: dataset, data_fingerprint, method, config_id, metric, split, group_name, selection.
-- Units: those of the metric; n_failed is the largest number of images that a trial could not score.
-- n is the number of seeds with a number, of n_planned; of the others seeds_failed failed, seeds_stopped were stopped early, and in
-- seeds_nan it is not a number. Intervals are 95-percent t-intervals over seeds, NULL for one seed.
-- variant: which of its block's variants it is in an experiment's spec (of several names the first).
-- Trials that only an earlier form of an experiment asked for are in score_by_form alone.
CREATE VIEW score AS
SELECT dataset, data_fingerprint, method, config_id, metric, split, group_name, selection, config,
  method_version, n, n_planned, seeds_failed, seeds_stopped, seeds_nan, mean, std, n_failed, on_failed, warning, ci_low, ci_high,
  variant
FROM score_by_form WHERE form = 'present'
