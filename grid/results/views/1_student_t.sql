-- Quantiles of Student's t for two-sided 95-percent intervals.
-- Grain: a range of degrees of freedom. Key: df_low. Units: none.
-- Above 30 degrees of freedom the value at the lower end serves the range (a little too wide).
-- Intervals are mean +- half = t * std / SQRT(n). Fractions between 0 and 1 (is_fraction: accuracies, IoU,
-- precision, F1) have theirs on the scale of log odds, where half is half / (mean * (1 - mean)), so that
-- no end leaves 0 to 1; `shrink` is the factor of the odds. More than 26 t cannot be, and is no fraction.
CREATE VIEW student_t AS
WITH quantile (df_low, df_high, t) AS (VALUES
  (1, 1, 12.7062047), (2, 2, 4.3026527), (3, 3, 3.1824463), (4, 4, 2.7764451),
  (5, 5, 2.5705818), (6, 6, 2.4469119), (7, 7, 2.3646243), (8, 8, 2.3060041),
  (9, 9, 2.2621572), (10, 10, 2.2281389), (11, 11, 2.2009852), (12, 12, 2.1788128),
  (13, 13, 2.1603687), (14, 14, 2.1447867), (15, 15, 2.1314495), (16, 16, 2.1199053),
  (17, 17, 2.1098156), (18, 18, 2.1009220), (19, 19, 2.0930241), (20, 20, 2.0859634),
  (21, 21, 2.0796138), (22, 22, 2.0738731), (23, 23, 2.0686576), (24, 24, 2.0638986),
  (25, 25, 2.0595386), (26, 26, 2.0555294), (27, 27, 2.0518305), (28, 28, 2.0484071),
  (29, 29, 2.0452296), (30, 34, 2.0422725), (35, 39, 2.0301079), (40, 49, 2.0210754),
  (50, 59, 2.0085591), (60, 79, 2.0002978), (80, 99, 1.9900634), (100, 149, 1.9839715),
  (150, 199, 1.9759053), (200, 399, 1.9718962), (400, 999, 1.9659123), (1000, 1000000000, 1.9623391)
)
SELECT df_low, df_high, CAST(t AS DOUBLE PRECISION) AS t FROM quantile
