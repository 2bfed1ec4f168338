"""The formula of a plan, by name: what a reader needs to check a number elsewhere."""

# Formulas are written as in their sources, in Greek.
# ruff: noqa: RUF001

from stream_processors.stats.planning_inputs import Formula, PlanInputs

_RATES = {
    "pooled": Formula(
        "pooled",
        "n_c = (z_a √(p(1 - p)(1 + 1/r)) + z_b √(p_c(1 - p_c) + p_t(1 - p_t)/r))² / δ²",
        "Fleiss, Levin, Paik (2003), Statistical Methods for Rates and Proportions, ch. 4;"
        " statsmodels samplesize_proportions_2indep_onetail",
    ),
    "unpooled": Formula(
        "unpooled",
        "n_c = (z_a + z_b)² (p_c(1 - p_c) + p_t(1 - p_t)/r) / δ²",
        "Chow, Shao, Wang (2008), Sample Size Calculations in Clinical Research, ch. 4",
    ),
    "evan_miller": Formula(
        "evan_miller",
        "n_c = (z_a √(p_c(1 - p_c)(1 + 1/r)) + z_b √(p_c(1 - p_c) + p_t(1 - p_t)/r))² / δ²",
        "evanmiller.org/ab-testing/sample-size.html",
    ),
    "arcsine": Formula(
        "arcsine",
        "Φ(h/se - z_a) + Φ(-h/se - z_a) = power, h = 2 asin √p_t - 2 asin √p_c,"
        " se² = 1/n_c + 1/n_t",
        "Cohen (1988), Statistical Power Analysis, ch. 6; statsmodels NormalIndPower",
    ),
    "score": Formula(
        "score",
        "n_c = (z_a √(w² q_c(1 - q_c) + q_t(1 - q_t)/r)"
        " + z_b √(w² p_c(1 - p_c) + p_t(1 - p_t)/r))² / δ², q the most likely rates at the margin,"
        " w = q_t/q_c of a relative margin, 1 of an absolute one",
        "Farrington, Manning (1990), Statistics in Medicine 9, 1447-1454, method 3",
    ),
}

_MEANS = {
    "noncentral_t": Formula(
        "noncentral_t",
        "P(|T'_ν(δ/se)| > t_ν) = power, se² = σ_c²/n_c + σ_t²/n_t, ν of Satterthwaite",
        "Cohen (1988), Statistical Power Analysis, ch. 2; statsmodels TTestIndPower",
    ),
    "normal": Formula(
        "normal",
        "n_c = (z_a + z_b)² (σ_c² + σ_t²/r) / δ²",
        "Chow, Shao, Wang (2008), Sample Size Calculations in Clinical Research, ch. 3",
    ),
}

_METHODS = {
    "always_valid": Formula(
        "always_valid",
        "P(|Z_j| > crit(N_j/N*) at a look j = 1..J) = power,"
        " crit² = (1 + k)/k · (ln(1 + k) - 2 ln α), k = N ρ²; by recursion of the sub-density",
        "Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, arXiv 2103.06476v7, eq. 9, 155, 161;"
        " Armitage, McPherson, Rowe (1969), JRSS A 132",
    ),
    "group_sequential": Formula(
        "group_sequential",
        "P(|Z_j| > c_j at a look j = 1..K) = power, c_j by the spending of α;"
        " N = inflation · N of one look; by recursion of the sub-density",
        "Lan, DeMets (1983), Biometrika 70; Jennison, Turnbull (2000), Group Sequential Methods,"
        " ch. 7 and 19",
    ),
    "bayesian": Formula(
        "bayesian",
        "P(Φ(μ/σ) > threshold) = power, 1/σ² = 1/se² + 1/τ², μ = σ²(d/se² + μ₀/τ²)",
        "Spiegelhalter, Abrams, Myles (2004), Bayesian Approaches to Clinical Trials, ch. 6",
    ),
}


def default_formula(inputs: PlanInputs) -> str:
    """Return the formula asked for, or the default of the kind."""
    if inputs.formula is not None:
        return inputs.formula
    if inputs.kind == "conversion":
        return "pooled" if inputs.margin is None else "score"
    return "normal" if inputs.kind == "quantile" else "noncentral_t"


def formula_of(inputs: PlanInputs) -> Formula:
    """Return by what a plan is computed."""
    if inputs.method != "fixed_horizon":
        return _METHODS[inputs.method]
    formula = (_RATES if inputs.kind == "conversion" else _MEANS)[default_formula(inputs)]
    if inputs.margin is None:
        return formula
    expression = formula.expression.replace("δ", "(δ + m)") + "; m the margin, one-sided α"
    return Formula(f"non_inferiority_{formula.name}", expression, formula.source)
