use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// An operator, its values, the label's value if it is there, and whether that matches.
type Row = (Operator, &'static [&'static str], Option<&'static str>, bool);

/// As k8s.io/apimachinery v0.34 `labels.Requirement.Matches` answers.
#[test]
fn an_expression_matches_as_kube_scheduler_has_it() {
    use Operator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
    let table: &[Row] = &[
        (In, &["a", "b"], Some("b"), true),
        (In, &["a", "b"], Some("c"), false),
        (In, &["a"], None, false),
        (In, &[""], Some(""), true),
        (In, &[""], None, false),
        (In, &["1"], Some("01"), false),
        (NotIn, &["a"], Some("b"), true),
        (NotIn, &["a"], Some("a"), false),
        (NotIn, &["a"], None, true),
        (NotIn, &[], Some("a"), false),
        (Exists, &[], Some(""), true),
        (Exists, &[], None, false),
        (DoesNotExist, &[], None, true),
        (DoesNotExist, &[], Some(""), false),
        (Gt, &["15359"], Some("15360"), true),
        (Gt, &["15360"], Some("15360"), false),
        (Gt, &["15359"], None, false),
        (Gt, &["15359"], Some(""), false),
        (Gt, &["15359"], Some("192G"), false),
        (Gt, &["15359"], Some("15360.5"), false),
        (Gt, &["15359"], Some("1e9"), false),
        (Gt, &["15359"], Some(" 15360"), false),
        (Gt, &["15359"], Some("015360"), true),
        (Gt, &["15359"], Some("+15360"), true),
        (Gt, &["-2"], Some("-1"), true),
        (Gt, &["0"], Some("-0"), false),
        (Gt, &["0"], Some("9223372036854775807"), true),
        (Gt, &["0"], Some("9223372036854775808"), false),
        (Gt, &["many"], Some("1"), false),
        (Gt, &["1", "2"], Some("3"), false),
        (Gt, &[], Some("3"), false),
        (Lt, &["2"], Some("1"), true),
        (Lt, &["2"], Some("2"), false),
        (Lt, &["2"], Some("-5"), true),
        (Lt, &["2"], None, false),
        (Lt, &["2"], Some("x"), false),
    ];
    for (operator, values, value, expected) in table {
        let expression = Expression::new("k", *operator, values.iter().copied());
        let labels = value.map(|value| labels(&[("k", value)])).unwrap_or_default();
        assert_eq!(expression.matches(&labels), *expected, "{operator:?} {values:?} against {value:?}");
    }
}

#[test]
fn a_term_holds_where_all_of_it_does_and_an_empty_one_nowhere() {
    let node = labels(&[("zone", "a"), ("memory", "23034")]);
    let zone = Expression::is_in("zone", ["a"]);
    let large = Expression::above("memory", 23033);
    let larger = Expression::above("memory", 23034);
    for (what, expressions, names, expected) in [
        ("empty", vec![], vec![], false),
        ("one", vec![zone.clone()], vec![], true),
        ("both", vec![zone.clone(), large], vec![], true),
        ("one of both", vec![zone.clone(), larger], vec![], false),
        ("its name", vec![], vec![(true, "n")], true),
        ("another's name", vec![zone.clone()], vec![(true, "m")], false),
        ("any but another's name", vec![zone.clone()], vec![(false, "m")], true),
        ("any but its name", vec![zone], vec![(false, "n")], false),
    ] {
        let names =
            names.into_iter().map(|(is, name)| NameExpression { is, name: name.to_owned() }).collect();
        let term = Term { expressions, names };
        assert_eq!(term.matches("n", &node), expected, "{what}");
    }
    let named = Term { expressions: vec![], names: vec![NameExpression { is: true, name: "m".into() }] };
    assert!(named.matches("", &node), "the name of a node that has none is not looked at");
}

#[test]
fn two_terms_hold_together_where_both_do() {
    let zone: Term = [Expression::is_in("zone", ["a"])].into_iter().collect();
    let large: Term = [Expression::above("memory", 10)].into_iter().collect();
    let both = zone.and(&large).unwrap();
    assert!(both.matches("n", &labels(&[("zone", "a"), ("memory", "11")])));
    assert!(!both.matches("n", &labels(&[("zone", "a"), ("memory", "10")])));
    assert!(!both.matches("n", &labels(&[("zone", "b"), ("memory", "11")])));
    assert_eq!(zone.and(&Term::default()), None, "what matches nothing matches nothing with more");
}

#[test]
fn a_term_is_written_and_read_as_the_api_has_it() {
    let api = json!({
        "matchExpressions": [
            {"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["23033"]},
            {"key": "nvidia.com/gpu.replicas", "operator": "DoesNotExist"},
        ],
        "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-a"]}],
    });
    let term = Term::from_api(&api).unwrap();
    assert_eq!(term.to_api(), api);
    assert_eq!(
        term.keys().collect::<Vec<_>>(),
        ["nvidia.com/gpu.memory", "nvidia.com/gpu.replicas", "metadata.name"]
    );
    for empty in
        [json!({}), json!({"matchExpressions": []}), json!({"matchExpressions": null, "matchFields": null})]
    {
        assert_eq!(Term::from_api(&empty), Ok(Term::default()), "{empty}");
    }
}

#[test]
fn what_could_never_be_bound_by_is_refused_with_the_field() {
    let expression = |fields: Value| json!({"matchExpressions": [fields]});
    let field = |fields: Value| json!({"matchFields": [fields]});
    for (api, message) in [
        (json!([]), "not an object"),
        (json!({"matchExpression": []}), "matchExpression: not a field of a node selector term"),
        (json!({"matchExpressions": {}}), "matchExpressions: not a list"),
        (expression(json!("zone")), "matchExpressions[0]: not an object"),
        (
            expression(json!({"key": "zone", "operator": "in", "values": ["a"]})),
            "matchExpressions[0].operator: \"in\" is not an operator that it may have",
        ),
        (
            expression(json!({"operator": "Exists"})),
            "matchExpressions[0].key: \"\" is not the key of a label",
        ),
        (
            expression(json!({"key": "a b", "operator": "Exists"})),
            "matchExpressions[0].key: \"a b\" is not the key of a label",
        ),
        (
            expression(json!({"key": "zone", "operator": "In"})),
            "matchExpressions[0].values: no values, which the operator needs",
        ),
        (
            expression(json!({"key": "zone", "operator": "Exists", "values": ["a"]})),
            "matchExpressions[0].values: 1 values, which the operator does not take",
        ),
        (
            expression(json!({"key": "zone", "operator": "In", "values": "a"})),
            "matchExpressions[0].values: not a list",
        ),
        (
            expression(json!({"key": "zone", "operator": "In", "values": [1]})),
            "matchExpressions[0].values[0]: not a string",
        ),
        (
            expression(json!({"key": "zone", "operator": "In", "values": ["a", "b c"]})),
            "matchExpressions[0].values[1]: \"b c\" is not the value of a label",
        ),
        (
            expression(json!({"key": "memory", "operator": "Gt", "values": ["24Gi"]})),
            "matchExpressions[0].values[0]: \"24Gi\" is not a whole number",
        ),
        (
            expression(json!({"key": "memory", "operator": "Lt", "values": ["1", "2"]})),
            "matchExpressions[0].values: 2 values, which the operator does not take",
        ),
        (
            expression(json!({"key": "zone", "operator": "Exists", "value": "a"})),
            "matchExpressions[0].value: not a field of a node selector term",
        ),
        (
            field(json!({"key": "metadata.namespace", "operator": "In", "values": ["a"]})),
            "matchFields[0].key: \"metadata.namespace\" is not a field that nodes are selected by",
        ),
        (
            field(json!({"key": "metadata.name", "operator": "Exists"})),
            "matchFields[0].operator: \"Exists\" is not an operator that it may have",
        ),
        (
            field(json!({"key": "metadata.name", "operator": "In", "values": ["a", "b"]})),
            "matchFields[0].values: 2 values, which the operator does not take",
        ),
    ] {
        let error = Term::from_api(&api).expect_err(message);
        assert_eq!(error.to_string(), message, "{api}");
        assert!(!error.fault.remedy().is_empty());
    }
}

fn any_expression() -> impl Strategy<Value = Expression> {
    let key = || select(vec!["zone", "nvidia.com/gpu.memory", "a.b/c"]);
    let values = vec("[a-z0-9]{0,4}", 1..4);
    prop_oneof![
        (key(), values.clone()).prop_map(|(key, values)| Expression::is_in(key, values)),
        (key(), values).prop_map(|(key, values)| Expression::not_in(key, values)),
        key().prop_map(Expression::exists),
        key().prop_map(Expression::absent),
        (key(), any::<u64>()).prop_map(|(key, bound)| Expression::above(key, bound)),
        (key(), any::<u64>()).prop_map(|(key, bound)| Expression::below(key, bound)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn what_is_written_is_read_back(expressions in vec(any_expression(), 0..5), names in vec(("[a-z]{1,5}", any::<bool>()), 0..3)) {
        let names = names.into_iter().map(|(name, is)| NameExpression { is, name }).collect();
        let term = Term { expressions, names };
        prop_assert_eq!(Term::from_api(&term.to_api()), Ok(term));
    }

    #[test]
    fn each_operator_is_the_opposite_of_another(
        labels in btree_map("zone", "[a-c]{0,1}|-?[0-9]{1,20}", 0..2), value in "[a-c]{0,1}", bound in any::<u64>(),
    ) {
        prop_assert_ne!(Expression::exists("zone").matches(&labels), Expression::absent("zone").matches(&labels));
        prop_assert_ne!(
            Expression::is_in("zone", [value.as_str()]).matches(&labels),
            Expression::not_in("zone", [value.as_str()]).matches(&labels)
        );
        let (above, below) = (Expression::above("zone", bound), Expression::below("zone", bound.saturating_add(1)));
        prop_assert!(!(above.matches(&labels) && below.matches(&labels)));
    }
}
