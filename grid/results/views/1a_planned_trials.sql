-- How many trials with one value of a knob, or one variant, were planned, and how many of them failed.
-- Grain and key: experiment, form, dataset, data_fingerprint, method, method_version, parameter, value.
-- Units: those of planned_of_knob. SQLite takes no condition into a UNION whose parts have windows of their
-- own, so each part is a view.
CREATE VIEW planned_trials AS
SELECT * FROM planned_of_knob
UNION ALL
SELECT * FROM planned_of_variant
