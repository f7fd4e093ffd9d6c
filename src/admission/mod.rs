//! Who may do what: register signatures, allow-lists, per-IP budgets.
