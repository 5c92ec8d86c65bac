-- What one knob does to a metric, everything else being equal.
-- Grain and key: experiment, dataset, data_fingerprint, method, method_version, parameter, value,
-- metric, split, group_name, selection. Units: those of the metric (fractions for accuracies).
-- A cell is one seed of one configuration without the knob. Only cells with every value of the knob
-- count (paired = 1); if there is none, all count (paired = 0) and no difference is given. Seeds are
-- the replicates: mean over a seed's cells first, then n seeds of n_planned; 95-percent t-intervals.
-- trials_failed failed, trials_stopped were stopped early, and in trials_nan the metric is not a number; a value of which nothing else is
-- there has n = 0. The difference is to `reference`, the smallest value; `place` numbers from there.
-- Trials that only an earlier form of the experiment asked for are in ablation_by_form alone.
CREATE VIEW ablation AS
SELECT experiment, dataset, data_fingerprint, method, method_version, parameter, value, metric, split,
  group_name, selection, n, n_planned, trials, trials_failed, trials_stopped, trials_nan, mean, std, ci_low, ci_high,
  paired, reference, difference, difference_ci_low, difference_ci_high, place, on_failed, warning
FROM ablation_by_form WHERE form = 'present'
