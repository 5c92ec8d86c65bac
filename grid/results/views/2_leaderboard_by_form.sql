-- As the view leaderboard, which it is made for, of the present form of experiments and of earlier ones.
-- Grain and key: form, dataset, data_fingerprint, method, config_id, split, selection. Units: see there.
-- The statistics are those of the view score, made here for three numbers at a time: a third of the rows.
CREATE VIEW leaderboard_by_form AS
WITH by_seed AS (
  SELECT t.config_id, m.split, m.selection, t.method, t.dataset, t.form, t.seed, MIN(t.example) AS example,
    MIN(t.n_planned) AS n_planned, MIN(t.seeds_failed) AS seeds_failed, MIN(t.seeds_stopped) AS seeds_stopped, MIN(t.n_failed) AS n_failed,
    MIN(t.on_failed) AS on_failed, MIN(t.warning) AS warning,
    MAX(CASE WHEN m.name = 'average_accuracy' THEN 1 ELSE 0 END) AS average_told,
    MAX(CASE WHEN m.name = 'adjusted_average_accuracy' THEN 1 ELSE 0 END) AS adjusted_told,
    MAX(CASE WHEN m.name = 'worst_group_accuracy' THEN 1 ELSE 0 END) AS worst_told,
    AVG(CASE WHEN m.name = 'average_accuracy' THEN m.value END) AS average,
    AVG(CASE WHEN m.name = 'adjusted_average_accuracy' THEN m.value END) AS adjusted,
    AVG(CASE WHEN m.name = 'worst_group_accuracy' THEN m.value END) AS worst
  FROM planned_trial t
  JOIN metric m ON m.trial_id = t.id AND m.step IS NULL AND m.group_name = 'all'
    AND m.name IN ('average_accuracy', 'adjusted_average_accuracy', 'worst_group_accuracy')
  WHERE t.status = 'done'
  GROUP BY t.config_id, m.split, m.selection, t.method, t.dataset, t.form, t.seed
), centred AS (
  SELECT by_seed.*,
    average - AVG(average) OVER line AS average_deviation,
    adjusted - AVG(adjusted) OVER line AS adjusted_deviation,
    worst - AVG(worst) OVER line AS worst_deviation
  FROM by_seed
  WINDOW line AS (PARTITION BY config_id, split, selection, method, dataset, form)
), over_seeds AS (
  SELECT config_id, split, selection, method, dataset, form, example, n_planned, seeds_failed, seeds_stopped, n_failed,
    on_failed, warning,
    AVG(average) OVER line AS average, COUNT(average) OVER line AS average_n, SUM(average_told) OVER line AS average_told,
    AVG(adjusted) OVER line AS adjusted, COUNT(adjusted) OVER line AS adjusted_n, SUM(adjusted_told) OVER line AS adjusted_told,
    AVG(worst) OVER line AS worst, COUNT(worst) OVER line AS worst_n, SUM(worst_told) OVER line AS worst_told,
    SUM(average_deviation * average_deviation) OVER line AS average_squares,
    SUM(adjusted_deviation * adjusted_deviation) OVER line AS adjusted_squares,
    SUM(worst_deviation * worst_deviation) OVER line AS worst_squares,
    ROW_NUMBER() OVER line AS nth
  FROM centred
  WINDOW line AS (PARTITION BY config_id, split, selection, method, dataset, form)
), summary AS (
  SELECT over_seeds.*,
    SQRT(average_squares / NULLIF(average_n - 1, 0)) AS average_std,
    SQRT(adjusted_squares / NULLIF(adjusted_n - 1, 0)) AS adjusted_std,
    SQRT(worst_squares / NULLIF(worst_n - 1, 0)) AS worst_std
  FROM over_seeds WHERE nth = 1
), spread AS (
  SELECT summary.*,
    average_t.t * average_std / SQRT(average_n) AS average_half,
    adjusted_t.t * adjusted_std / SQRT(adjusted_n) AS adjusted_half,
    worst_t.t * worst_std / SQRT(worst_n) AS worst_half
  FROM summary
  LEFT JOIN student_t average_t ON average_n - 1 BETWEEN average_t.df_low AND average_t.df_high
  LEFT JOIN student_t adjusted_t ON adjusted_n - 1 BETWEEN adjusted_t.df_low AND adjusted_t.df_high
  LEFT JOIN student_t worst_t ON worst_n - 1 BETWEEN worst_t.df_low AND worst_t.df_high
), scaled AS (
  SELECT spread.*,
    CASE WHEN average_half < 26 * average * (1 - average) THEN EXP(-average_half / (average * (1 - average))) END AS average_shrink,
    CASE WHEN adjusted_half < 26 * adjusted * (1 - adjusted) THEN EXP(-adjusted_half / (adjusted * (1 - adjusted))) END AS adjusted_shrink,
    CASE WHEN worst_half < 26 * worst * (1 - worst) THEN EXP(-worst_half / (worst * (1 - worst))) END AS worst_shrink,
    CASE WHEN average_told > 0 THEN average_n END AS average_seeds, average_told - average_n AS average_nan,
    CASE WHEN adjusted_told > 0 THEN adjusted_n END AS adjusted_seeds, adjusted_told - adjusted_n AS adjusted_nan,
    CASE WHEN worst_told > 0 THEN worst_n END AS worst_seeds, worst_told - worst_n AS worst_nan
  FROM spread
)
SELECT s.form, s.dataset, x.data_fingerprint, s.method, x.method_version, s.config_id, x.config, s.split, s.selection,
  CASE WHEN average_seeds <= COALESCE(adjusted_seeds, average_seeds) AND average_seeds <= COALESCE(worst_seeds, average_seeds)
    THEN average_seeds WHEN adjusted_seeds <= COALESCE(worst_seeds, adjusted_seeds) THEN adjusted_seeds
    ELSE COALESCE(worst_seeds, adjusted_seeds) END AS n,
  s.n_planned, s.seeds_failed, s.seeds_stopped,
  CASE WHEN average_nan >= adjusted_nan AND average_nan >= worst_nan THEN average_nan
    WHEN adjusted_nan >= worst_nan THEN adjusted_nan ELSE worst_nan END AS seeds_nan,
  average AS average_accuracy, average_std AS average_accuracy_std,
  COALESCE(average * average_shrink / (average * average_shrink + 1 - average), average - average_half) AS average_accuracy_ci_low,
  COALESCE(average / (average + (1 - average) * average_shrink), average + average_half) AS average_accuracy_ci_high,
  adjusted AS adjusted_average_accuracy, adjusted_std AS adjusted_average_accuracy_std,
  COALESCE(adjusted * adjusted_shrink / (adjusted * adjusted_shrink + 1 - adjusted), adjusted - adjusted_half) AS adjusted_average_accuracy_ci_low,
  COALESCE(adjusted / (adjusted + (1 - adjusted) * adjusted_shrink), adjusted + adjusted_half) AS adjusted_average_accuracy_ci_high,
  worst AS worst_group_accuracy, worst_std AS worst_group_accuracy_std,
  COALESCE(worst * worst_shrink / (worst * worst_shrink + 1 - worst), worst - worst_half) AS worst_group_accuracy_ci_low,
  COALESCE(worst / (worst + (1 - worst) * worst_shrink), worst + worst_half) AS worst_group_accuracy_ci_high,
  s.n_failed, s.warning, s.on_failed,
  (SELECT MIN(a.variant) FROM asked_trial a WHERE a.trial_id = s.example AND a.form = s.form) AS variant
FROM scaled s
JOIN trial x ON x.id = s.example
UNION ALL
SELECT p.form, p.dataset, p.data_fingerprint, p.method, x.method_version, p.config_id, x.config, k.split,
  k.selection, 0, p.n_planned, p.seeds_failed, p.seeds_stopped, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  NULL, NULL, NULL, (SELECT MIN(a.variant) FROM asked_trial a WHERE a.trial_id = p.example AND a.form = p.form)
FROM planned_trial p
JOIN trial x ON x.id = p.example
JOIN (
  SELECT DISTINCT dataset, method, split, selection FROM score_kind
  WHERE group_name = 'all' AND metric IN ('average_accuracy', 'adjusted_average_accuracy', 'worst_group_accuracy')
) k ON k.dataset = p.dataset AND k.method = p.method
WHERE p.id = p.example AND p.seeds_done = 0 AND p.seeds_failed > 0
