use super::*;

fn read(text: &str) -> Result<Definition, ConfigError> {
    Definition::parse("sweep.yaml", text, Path::new("dir"))
}

fn of_samples(samples: Option<u64>) -> Budget {
    Budget {
        samples,
        ..Budget::default()
    }
}

#[test]
fn rungs_may_set_variables() {
    let text = "model: a.onnx\npipeline: p\nsearch: { halving: { rungs: [{ epochs: 1, samples: 8 }, { epochs: 4, samples: all }] } }\n";
    let Search::Halving(halving) = read(text).unwrap().search else {
        panic!("no rungs");
    };
    let samples: Vec<Option<u64>> = halving.rungs.iter().map(|rung| rung.samples).collect();
    assert_eq!(samples, [Some(8), None]);
    let epochs: Vec<&Value> = halving.rungs.iter().map(|rung| &rung.values["epochs"]).collect();
    assert_eq!(epochs, [&Value::from(1), &Value::from(4)]);
}

#[test]
fn a_sweep_has_models_a_pipeline_and_what_varies() {
    let text = "version: 1\nmodels: [a.onnx, sub/b.onnx]\npipeline: { steps: [simplify] }\nvars: { x: [1, 2], quantize.type: int8 }\nsearch: { halving: { rungs: [4, 8, all], eta: 2, samples: 3, seed: 7 } }\ndata: { evaluation: e.npz }\nmeasure: accuracy\nexclude: { x: 1, model: b }\n";
    let sweep = read(text).unwrap();
    assert_eq!(
        sweep.models,
        [Path::new("dir/a.onnx"), Path::new("dir/sub/b.onnx")]
    );
    assert!(matches!(&sweep.source, Source::Inline(_)));
    assert_eq!(
        sweep.search,
        Search::Halving(Halving {
            rungs: [Some(4), Some(8), None].map(of_samples).to_vec(),
            eta: 2.0,
            random: Some((3, 7))
        })
    );
    assert_eq!(sweep.settings().unwrap().len(), 3);
    let least = read("model: a.onnx\npipeline: simplify\n").unwrap();
    assert_eq!(least.settings().unwrap().len(), 1);
    assert_eq!(least.search, Search::Grid);
}

const MISTAKES: [(&str, &str); 29] = [
    ("- a\n", "sweep-shape 1:1 a sweep is a map"),
    ("models: a\n", "sweep-shape 1:1 a sweep needs a `pipeline`"),
    ("pipeline: p\n", "sweep-shape 1:1 a sweep needs `models`"),
    ("pipeline: p\nmodels: []\n", "sweep-shape 2:1 there are no models"),
    (
        "pipeline: p\nmodels: [1]\n",
        "sweep-shape 2:10 a model is a text, not a number",
    ),
    (
        "pipeline: p\nmodels: [a.onnx, b/a.onnx]\n",
        "sweep-shape 2:18 two models are called a",
    ),
    (
        "pipeline: p\nmodels: a\nmodel: b\n",
        "sweep-shape 2:1 a sweep has `model` or `models`",
    ),
    (
        "pipeline: p\nmodel: a\nvar: {}\n",
        "unknown-key 3:1 unknown key `var`|did you mean `vars`?",
    ),
    ("pipeline: 3\nmodel: a\n", "sweep-shape 1:11 a pipeline is a file"),
    (
        "pipeline: { include: nowhere.yaml }\nmodel: a\n",
        "include 1:22 cannot read dir/nowhere.yaml",
    ),
    (
        "version: 2\npipeline: p\nmodel: a\n",
        "sweep-shape 1:10 the version",
    ),
    (
        "pipeline: p\nmodel: a\nvars: [1]\n",
        "sweep-shape 3:7 `vars` is a map, not a list",
    ),
    (
        "pipeline: p\nmodel: a\nvars: { model: [1] }\n",
        "variable-syntax 3:9",
    ),
    (
        "pipeline: p\nmodel: a\nvars: { x: [] }\n",
        "sweep-shape 3:12 `x` has no values",
    ),
    (
        "pipeline: p\nmodel: a\nsearch: best\n",
        "sweep-shape 3:9 this is no search|grid, ",
    ),
    (
        "pipeline: p\nmodel: a\nsearch: { random: {} }\n",
        "sweep-shape 3:19 `random` needs `samples`",
    ),
    (
        "pipeline: p\nmodel: a\nsearch: { random: { samples: 0 } }\n",
        "sweep-shape 3:30 `samples` is a whole",
    ),
    (
        "pipeline: p\nmodel: a\nsearch: { random: { sample: 1 } }\n",
        "unknown-key 3:21 unknown key `sample`|did you mean `samples`?",
    ),
    (
        "pipeline: p\nmodel: a\nsearch: { halving: { rungs: [4] } }\n",
        "sweep-shape 3:20 `halving` needs two",
    ),
    (
        "pipeline: p\nmodel: a\nsearch: { halving: { rungs: [4, 4] } }\n",
        "sweep-shape 3:33 each rung",
    ),
    (
        "pipeline: p\nmodel: a\nsearch: { halving: { rungs: [{ e: 1 }, { f: 1 }] } }\n",
        "sweep-shape 3:40 every rung sets",
    ),
    (
        "pipeline: p\nmodel: a\nsearch: { halving: { rungs: [{ e: 1 }, { e: 1 }] } }\n",
        "sweep-shape 3:40 each rung",
    ),
    (
        "pipeline: p\nmodel: a\nsearch: { halving: { rungs: [all, 4] } }\n",
        "sweep-shape 3:35 each rung",
    ),
    (
        "pipeline: p\nmodel: a\nsearch: { halving: { rungs: [4, 8], eta: 1 } }\n",
        "sweep-shape 3:42 `eta` is",
    ),
    (
        "pipeline: p\nmodel: a\ndata: { evalation: x }\n",
        "unknown-role 3:9 unknown role `evalation`|did you mean `evaluation`?",
    ),
    (
        "pipeline: p\nmodel: a\ndata: { evaluation: 3 }\n",
        "sweep-shape 3:21 data are",
    ),
    (
        "pipeline: p\nmodel: a\nmeasure: []\n",
        "sweep-shape 3:10 there is nothing",
    ),
    (
        "pipeline: p\nmodel: a\nvars: { ratio: [1] }\nexclude: [{ rato: 1 }]\n",
        "unknown-variable 4:13 the sweep has no variable `rato`|did you mean `ratio`?",
    ),
    (
        "pipeline: p\nmodel: a\nonly: [3]\n",
        "sweep-shape 3:8 each of `only` is a map",
    ),
];

#[test]
fn mistakes_have_a_code_a_place_and_a_hint() {
    for (text, expected) in MISTAKES {
        let error = read(text).map(|_| ()).unwrap_err();
        let (expected, hint) = expected.split_once('|').unwrap_or((expected, ""));
        let found = format!("{} {}:{} {error}", error.code, error.spot.line, error.spot.column);
        assert!(found.starts_with(expected), "{text}: {found}");
        assert!(
            error.hint.clone().unwrap_or_default().contains(hint),
            "{text}: {:?}",
            error.hint
        );
    }
    let none = read("pipeline: p\nmodel: a\nvars: { x: [1] }\nexclude: [{ x: 1 }]\n").unwrap();
    assert_eq!(none.settings().unwrap_err().code, "sweep-shape");
    let range = read("pipeline: p\nmodel: a\nvars: { x: { from: 0, to: 1 } }\n").unwrap();
    assert!(
        range
            .settings()
            .unwrap_err()
            .to_string()
            .contains("random search")
    );
}
