-- Rows hold the numbers of the method that "interval" names, and of no other: those of others, which
-- were stored beside them before, are taken away. On open units there is no p-value, and of a fixed
-- horizon none in what was stored before, because rows do not say which look was the planned one.
-- Applied again it changes nothing.
ALTER TABLE look_rows UPDATE
    running_low = if(interval = 'always_valid', running_low, NULL),
    running_high = if(interval = 'always_valid', running_high, NULL),
    running_p_value = if(interval = 'always_valid', running_p_value, NULL),
    fixed_horizon_low = if(interval = 'fixed_horizon', fixed_horizon_low, NULL),
    fixed_horizon_high = if(interval = 'fixed_horizon', fixed_horizon_high, NULL),
    fixed_horizon_p_value = NULL,
    p_value = if(interval = 'fixed_horizon', NULL, p_value)
WHERE 1
SETTINGS mutations_sync = 2
