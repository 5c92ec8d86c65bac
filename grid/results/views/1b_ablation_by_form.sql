-- As the view ablation, which it is made for, of the present form of an experiment and of earlier ones.
-- Grain and key: form and the key of ablation. Units: see there. Values without a number have no place.
CREATE VIEW ablation_by_form AS
WITH held AS (
  SELECT ablation_cell.*, COUNT(score) OVER (PARTITION BY experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection, rest, seed) AS held
  FROM ablation_cell
), scored AS (
  SELECT held.*, COUNT(score) OVER of_value AS scored, SUM(trials_nan) OVER of_value AS nan_of_value
  FROM held
  WINDOW of_value AS (PARTITION BY experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection, value)
), placed AS (
  SELECT scored.*, DENSE_RANK() OVER (PARTITION BY experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection, score IS NULL
      ORDER BY number IS NULL, number, value) AS place_of_score
  FROM scored
), counted AS (
  SELECT placed.*, MAX(CASE WHEN score IS NOT NULL THEN place_of_score END) OVER series AS occurring,
    MIN(scored) OVER series AS least_scored
  FROM placed
  WINDOW series AS (PARTITION BY experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection)
), judged AS (
  SELECT counted.*, MAX(CASE WHEN score IS NOT NULL AND held = occurring THEN 1 ELSE 0 END)
      OVER (PARTITION BY experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection) AS paired
  FROM counted
), of_seed AS (
  SELECT experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection, value, paired, seed,
    MAX(CASE WHEN scored > 0 THEN place_of_score END) OVER cell AS place, AVG(score) OVER cell AS score,
    SUM(trials) OVER cell AS trials, MAX(nan_of_value) OVER cell AS trials_nan,
    MIN(on_failed_low) OVER cell AS on_failed_low, MAX(on_failed_high) OVER cell AS on_failed_high,
    MAX(warning) OVER cell AS warning, ROW_NUMBER() OVER cell AS nth
  FROM judged
  WHERE (occurring > 1 OR least_scored = 0 OR values_lost > 0)
    AND (scored = 0 OR (score IS NOT NULL AND (paired = 0 OR held = occurring)))
  WINDOW cell AS (PARTITION BY experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection, value, seed)
), by_seed AS (
  SELECT of_seed.*, score - AVG(score) OVER (PARTITION BY experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection, value) AS deviation
  FROM of_seed WHERE nth = 1
), referred AS (
  SELECT by_seed.*, MAX(CASE WHEN place = 1 THEN value END) OVER (PARTITION BY experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection) AS reference
  FROM by_seed
), versus AS (
  SELECT referred.*,
    CASE WHEN paired = 1 AND place > 1 THEN score
      - MAX(CASE WHEN place = 1 THEN score END) OVER series_seed END AS gain,
    CASE WHEN paired = 1 AND place > 1 THEN deviation
      - MAX(CASE WHEN place = 1 THEN deviation END) OVER series_seed END AS gain_deviation
  FROM referred
  WINDOW series_seed AS (PARTITION BY experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection, seed)
), of_value AS (
  SELECT experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection, value, place, paired, reference,
    COUNT(score) OVER of_value AS n, AVG(score) OVER of_value AS mean,
    CAST(SUM(trials) OVER of_value AS INTEGER) AS trials,
    CAST(MAX(trials_nan) OVER of_value AS INTEGER) AS trials_nan,
    SQRT(SUM(deviation * deviation) OVER of_value / NULLIF(COUNT(score) OVER of_value - 1, 0)) AS std,
    AVG(gain) OVER of_value AS difference,
    SQRT(SUM(gain_deviation * gain_deviation) OVER of_value / NULLIF(COUNT(gain) OVER of_value - 1, 0))
      AS difference_std,
    MIN(on_failed_low) OVER of_value AS on_failed_low, MAX(on_failed_high) OVER of_value AS on_failed_high,
    MAX(warning) OVER of_value AS warning, ROW_NUMBER() OVER of_value AS nth_of_value
  FROM versus
  WINDOW of_value AS (PARTITION BY experiment, form, dataset, data_fingerprint, method, method_version,
      parameter, metric, split, group_name, selection, value)
), summary AS (
  SELECT * FROM of_value WHERE nth_of_value = 1
), spread AS (
  SELECT summary.*, t * std / SQRT(n) AS half, t * difference_std / SQRT(n) AS half_difference,
    REPLACE(REPLACE(REPLACE(REPLACE(metric, 'accuracy', ''), '_iou', ''), '_precision', ''), '_f1', '') <> metric AS is_fraction
  FROM summary
  LEFT JOIN student_t ON n - 1 BETWEEN df_low AND df_high
), scaled AS (
  SELECT spread.*,
    CASE WHEN is_fraction AND half < 26 * mean * (1 - mean) THEN EXP(-half / (mean * (1 - mean))) END AS shrink
  FROM spread
)
SELECT s.experiment, s.form, s.dataset, s.data_fingerprint, s.method, s.method_version, s.parameter,
  s.metric, s.split, s.group_name, s.selection, s.value,
  s.n, p.n_planned, p.trials_failed, p.trials_stopped, s.trials, s.trials_nan, s.mean, s.std,
  COALESCE(s.mean * shrink / (s.mean * shrink + 1 - s.mean), s.mean - half) AS ci_low,
  COALESCE(s.mean / (s.mean + (1 - s.mean) * shrink), s.mean + half) AS ci_high,
  s.paired, s.reference, s.difference,
  CASE WHEN is_fraction AND s.difference - half_difference < -1 THEN -1.0 ELSE s.difference - half_difference END
    AS difference_ci_low,
  CASE WHEN is_fraction AND s.difference + half_difference > 1 THEN 1.0 ELSE s.difference + half_difference END
    AS difference_ci_high, s.place,
  CASE WHEN on_failed_low = on_failed_high THEN on_failed_low ELSE 'mixed' END AS on_failed, s.warning
FROM scaled s
JOIN planned_trials p ON p.experiment = s.experiment AND p.form = s.form AND p.dataset = s.dataset
  AND p.data_fingerprint = s.data_fingerprint AND p.method = s.method AND p.parameter = s.parameter
  AND p.method_version = s.method_version AND p.value = s.value
UNION ALL
SELECT p.experiment, p.form, p.dataset, p.data_fingerprint, p.method, p.method_version, p.parameter,
  k.metric, k.split, k.group_name, k.selection, p.value,
  0, p.n_planned, p.trials_failed, p.trials_stopped, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  NULL, NULL
FROM planned_trials p
JOIN score_kind k ON k.dataset = p.dataset AND k.method = p.method
WHERE p.trials_done = 0 AND p.trials_failed + p.trials_stopped > 0 AND p.values_ended > 1
