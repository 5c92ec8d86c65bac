-- The scores that ablations are made of: over knobs, and over the variants of a block (parameter 'variant').
-- Grain and key: experiment, form, dataset, data_fingerprint, method, method_version, parameter, value,
-- rest, seed, metric, split, group_name, selection. Units: those of knob_cell. data_fingerprint is
-- 'drawn anew' for knobs of a generator, whose every value is other data.
CREATE VIEW ablation_cell AS
SELECT * FROM knob_cell
UNION ALL
SELECT * FROM variant_cell
