-- Every configuration with its scores over seeds, all experiments of the store together.
-- Grain and key: dataset, data_fingerprint, method, config_id, split, selection.
-- Units: accuracies are fractions; n_failed is the largest number of images that a trial could not
-- score. n is the number of seeds (the smallest over the three metrics, where one is missing), of
-- n_planned; of the others seeds_failed failed, seeds_stopped were stopped early, and seeds_nan have a metric that is not a number.
-- Intervals are 95-percent t-intervals over seeds, NULL for one seed.
-- variant: which of its block's variants it is in an experiment's spec (of several names the first).
CREATE VIEW leaderboard AS
SELECT dataset, data_fingerprint, method, method_version, config_id, config, split, selection, n, n_planned,
  seeds_failed, seeds_stopped, seeds_nan,
  average_accuracy, average_accuracy_std, average_accuracy_ci_low,
  average_accuracy_ci_high,
  adjusted_average_accuracy, adjusted_average_accuracy_std, adjusted_average_accuracy_ci_low,
  adjusted_average_accuracy_ci_high,
  worst_group_accuracy, worst_group_accuracy_std, worst_group_accuracy_ci_low,
  worst_group_accuracy_ci_high,
  n_failed, on_failed, warning, variant
FROM leaderboard_by_form WHERE form = 'present'
