-- What one knob does to a metric, everything else being equal.
-- Grain and key: experiment, dataset, data_fingerprint, method, method_version, parameter, value,
-- metric, split, group_name, selection. Units: those of the metric (fractions for accuracies).
-- A cell is one seed of one configuration without the knob. Only cells with every value of the knob
-- count (paired = 1); if there is none, all count (paired = 0) and no difference is given. Seeds are
-- the replicates: mean over a seed's cells first, then n seeds; 95-percent t-intervals.
-- The difference is to `reference`, the smallest value; `place` numbers the values from there.
CREATE VIEW ablation AS
WITH counted AS (
  SELECT ablation_cell.*,
    COUNT(*) OVER (PARTITION BY experiment, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection, rest, seed) AS held,
    DENSE_RANK() OVER (series ORDER BY number IS NULL, number, value) AS place,
    DENSE_RANK() OVER (series ORDER BY number IS NULL DESC, number DESC, value DESC) AS place_from_end
  FROM ablation_cell WINDOW series AS (PARTITION BY experiment, dataset, data_fingerprint, method,
    method_version, parameter, metric, split, group_name, selection)
), judged AS (
  SELECT counted.*, place + place_from_end - 1 AS occurring,
    MAX(CASE WHEN held = place + place_from_end - 1 THEN 1 ELSE 0 END) OVER (
      PARTITION BY experiment, dataset, data_fingerprint, method, method_version,
        parameter, metric, split, group_name, selection) AS paired
  FROM counted
), by_seed AS (
  SELECT experiment, dataset, data_fingerprint, method, method_version, parameter, metric, split,
    group_name, selection, value, place, paired, seed, AVG(score) AS score, SUM(trials) AS trials,
    AVG(score) - AVG(AVG(score)) OVER (PARTITION BY experiment, dataset, data_fingerprint, method,
      method_version, parameter, metric, split, group_name, selection, value, place, paired)
      AS deviation, MIN(on_failed_low) AS on_failed_low, MAX(on_failed_high) AS on_failed_high
  FROM judged WHERE occurring > 1 AND (paired = 0 OR held = occurring)
  GROUP BY experiment, dataset, data_fingerprint, method, method_version, parameter, metric, split,
    group_name, selection, value, place, paired, seed
), versus AS (
  SELECT by_seed.*, MAX(CASE WHEN place = 1 THEN value END) OVER series AS reference,
    CASE WHEN paired = 1 AND place > 1 THEN score
      - MAX(CASE WHEN place = 1 THEN score END) OVER series_seed END AS gain,
    CASE WHEN paired = 1 AND place > 1 THEN deviation
      - MAX(CASE WHEN place = 1 THEN deviation END) OVER series_seed END AS gain_deviation
  FROM by_seed WINDOW series AS (PARTITION BY experiment, dataset, data_fingerprint, method,
      method_version, parameter, metric, split, group_name, selection),
    series_seed AS (PARTITION BY experiment, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection, seed)
), summary AS (
  SELECT experiment, dataset, data_fingerprint, method, method_version, parameter, value, place,
    metric, split, group_name, selection, COUNT(*) AS n, AVG(score) AS mean,
    CAST(SUM(trials) AS INTEGER) AS trials,
    SQRT(SUM(deviation * deviation) / NULLIF(COUNT(*) - 1, 0)) AS std,
    paired, reference, AVG(gain) AS difference,
    SQRT(SUM(gain_deviation * gain_deviation) / NULLIF(COUNT(gain) - 1, 0)) AS difference_std,
    MIN(on_failed_low) AS on_failed_low, MAX(on_failed_high) AS on_failed_high
  FROM versus
  GROUP BY experiment, dataset, data_fingerprint, method, method_version, parameter, value, place,
    metric, split, group_name, selection, paired, reference
)
SELECT experiment, dataset, data_fingerprint, method, method_version, parameter, value, metric,
  split, group_name, selection, n, trials, mean, std,
  mean - t * std / SQRT(n) AS ci_low, mean + t * std / SQRT(n) AS ci_high, paired, reference,
  difference, difference - t * difference_std / SQRT(n) AS difference_ci_low,
  difference + t * difference_std / SQRT(n) AS difference_ci_high, place,
  CASE WHEN on_failed_low = on_failed_high THEN on_failed_low ELSE 'mixed' END AS on_failed
FROM summary LEFT JOIN student_t ON n - 1 BETWEEN df_low AND df_high
