//! Against values of pycocotools 2.0.11.

use super::super::{Measured, Named};
use super::*;
use crate::data::Categories;

fn truth(category: i64, rect: [f64; 4]) -> TrueBox {
    TrueBox {
        category,
        rect,
        area: rect[2] * rect[3],
        ..TrueBox::default()
    }
}

fn found(category: i64, score: f64, rect: [f64; 4]) -> Found {
    Found {
        category,
        score,
        rect,
        keypoints: Vec::new(),
    }
}

fn measured(images: &[(Vec<TrueBox>, Vec<Found>)], categories: &[i64], similarity: &Similarity) -> Precision {
    let images: Vec<Image<'_>> = images
        .iter()
        .map(|(truth, found)| Image { truth, found })
        .collect();
    Precision::new(&images, categories, similarity)
}

fn of_boxes(truth: Vec<TrueBox>, found: Vec<Found>) -> Precision {
    measured(&[(truth, found)], &[1], &Similarity::Boxes)
}

#[track_caller]
fn same(found: Option<f64>, wanted: Option<f64>, what: &str) {
    match (found, wanted) {
        (Some(a), Some(b)) => assert!((a - b).abs() < 1e-12, "{what}: {a} instead of {b}"),
        _ => assert_eq!(found, wanted, "{what}"),
    }
}

#[track_caller]
fn all_same(found: &Named, wanted: &[(&str, Option<f64>)]) {
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let wanted_names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, wanted_names);
    for (name, value) in wanted {
        same(found[*name], *value, name);
    }
}

/// A crowd, equal scores, three sizes, an image without truth, a category without truth.
fn boxes() -> Precision {
    let crowd = TrueBox {
        crowd: true,
        ..truth(1, [100.0, 0.0, 100.0, 100.0])
    };
    let outlined = TrueBox {
        area: 900.0,
        ..truth(2, [5.0, 5.0, 30.0, 40.0])
    };
    let images = [
        (
            vec![
                truth(1, [10.0, 10.0, 20.0, 20.0]),
                truth(1, [40.0, 10.0, 50.0, 60.0]),
                crowd,
                outlined,
            ],
            vec![
                found(1, 0.9, [11.0, 10.0, 20.0, 20.0]),
                found(1, 0.8, [40.0, 12.0, 50.0, 60.0]),
                found(1, 0.8, [110.0, 10.0, 30.0, 30.0]),
                found(1, 0.7, [120.0, 20.0, 40.0, 40.0]),
                found(1, 0.6, [300.0, 0.0, 10.0, 10.0]),
                found(2, 0.5, [5.0, 9.0, 30.0, 40.0]),
                found(2, 0.5, [5.0, 6.0, 30.0, 40.0]),
                found(7, 0.99, [0.0, 0.0, 9.0, 9.0]),
            ],
        ),
        (
            vec![
                truth(1, [0.0, 0.0, 120.0, 110.0]),
                truth(1, [10.0, 0.0, 120.0, 110.0]),
                truth(2, [50.0, 50.0, 32.0, 32.0]),
            ],
            vec![
                found(1, 0.85, [5.0, 0.0, 120.0, 110.0]),
                found(1, 0.3, [0.0, 0.0, 120.0, 100.0]),
                found(2, 0.4, [50.0, 50.0, 30.0, 30.0]),
            ],
        ),
        (
            vec![],
            vec![
                found(1, 0.75, [0.0, 0.0, 50.0, 50.0]),
                found(2, 0.45, [1.0, 1.0, 5.0, 5.0]),
            ],
        ),
    ];
    measured(&images, &[7, 2, 1], &Similarity::Boxes)
}

#[test]
fn boxes_are_judged_as_the_reference_does() {
    all_same(
        &boxes().figures(),
        &[
            ("map", Some(0.7264851485148515)),
            ("map50", Some(0.8349834983498351)),
            ("map75", Some(0.8349834983498351)),
            ("map-small", Some(0.8344884488448844)),
            ("map-medium", Some(0.65)),
            ("map-large", Some(0.9)),
            ("ar1", Some(0.6)),
            ("ar10", Some(0.9)),
            ("ar100", Some(0.9)),
            ("ar-small", Some(0.9)),
            ("ar-medium", Some(0.85)),
            ("ar-large", Some(0.9)),
        ],
    );
}

#[test]
fn classes_are_judged_as_the_reference_does() {
    let names = Categories::from([(1, "cat".to_owned())]);
    let classes = boxes().by_class(&names);
    let wanted = [
        (
            1,
            Some("cat"),
            4,
            Some(0.8257425742574257),
            Some(0.9174917491749175),
        ),
        (2, None, 2, Some(0.6272277227722772), Some(0.7524752475247525)),
        (7, None, 0, None, None),
    ];
    assert_eq!(classes.len(), wanted.len());
    for (found, (class, name, support, ap, ap50)) in classes.iter().zip(wanted) {
        assert_eq!(
            (found.class, found.name.as_deref(), found.support),
            (class, name, support)
        );
        all_same(&found.figures, &[("ap", ap), ("ap50", ap50)]);
    }
}

#[test]
fn weights_are_repetitions() {
    let precision = boxes();
    assert_eq!(precision.resampled_names(), ["map", "map50"]);
    let cases = [
        ([1, 2, 0], Some(0.7746463932107496), Some(0.893033946251768)),
        ([0, 3, 0], Some(0.85), Some(1.0)),
        ([1, 0, 2], Some(0.875), Some(1.0)),
        ([1, 1, 1], Some(0.7264851485148515), Some(0.8349834983498351)),
        ([0, 0, 3], None, None),
    ];
    for (weights, map, map50) in cases {
        let values = precision.resampled(&weights);
        assert_eq!(values.len(), 2);
        same(values[0], map, &format!("map of {weights:?}"));
        same(values[1], map50, &format!("map50 of {weights:?}"));
    }
}

#[test]
fn no_more_than_a_hundred_of_a_category_and_image_are_judged() {
    for (wrong, map, recall) in [(99, 0.01, 1.0), (100, 0.0, 0.0)] {
        let mut objects: Vec<Found> = (0..wrong)
            .map(|at| found(1, 0.2 + f64::from(at) / 1000.0, [500.0, 0.0, 10.0, 10.0]))
            .collect();
        objects.push(found(1, 0.1, [0.0, 0.0, 10.0, 10.0]));
        let figures = of_boxes(vec![truth(1, [0.0, 0.0, 10.0, 10.0])], objects).figures();
        same(figures["map"], Some(map), "map");
        same(figures["ar10"], Some(0.0), "ar10");
        same(figures["ar100"], Some(recall), "ar100");
    }
}

#[test]
fn scores_that_are_not_numbers_come_last() {
    let rect = [0.0, 0.0, 10.0, 10.0];
    let wrong = [50.0, 0.0, 10.0, 10.0];
    let map50 = |objects| of_boxes(vec![truth(1, rect)], objects).figures()["map50"];
    same(
        map50(vec![found(1, f64::NAN, wrong), found(1, 0.1, rect)]),
        Some(1.0),
        "wrong",
    );
    same(
        map50(vec![found(1, f64::NAN, rect), found(1, 0.1, wrong)]),
        Some(0.5),
        "right",
    );
}

#[test]
fn boxes_that_are_not_numbers_are_wrong_and_endless_ones_left_out() {
    let rect = [0.0, 0.0, 10.0, 10.0];
    let objects = vec![
        found(1, 0.9, [f64::NAN; 4]),
        found(1, 0.8, [0.0, 0.0, f64::INFINITY, 10.0]),
        found(1, 0.1, rect),
    ];
    let figures = of_boxes(vec![truth(1, rect)], objects).figures();
    same(figures["map50"], Some(0.5), "map50");
}

#[test]
fn what_is_ignored_takes_one_and_a_crowd_any_number() {
    let rect = [0.0, 0.0, 10.0, 10.0];
    let far = [50.0, 0.0, 10.0, 10.0];
    let objects = || vec![found(1, 0.9, far), found(1, 0.8, far), found(1, 0.1, rect)];
    let map50 = |crowd, ignore| {
        let other = TrueBox {
            crowd,
            ignore,
            ..truth(1, far)
        };
        of_boxes(vec![truth(1, rect), other], objects()).figures()["map50"]
    };
    same(map50(true, false), Some(1.0), "crowd");
    same(map50(false, true), Some(0.5), "ignored");
}

#[test]
fn nothing_true_has_no_figures() {
    let figures = of_boxes(vec![], vec![found(1, 0.9, [0.0, 0.0, 10.0, 10.0])]).figures();
    assert!(figures.values().all(Option::is_none));
    let none = measured(&[], &[], &Similarity::Boxes);
    assert!(none.figures().values().all(Option::is_none));
    assert_eq!(none.resampled(&[]), [None, None]);
    let figures = of_boxes(vec![truth(1, [0.0, 0.0, 10.0, 10.0])], vec![]).figures();
    same(figures["map"], Some(0.0), "nothing found");
}

/// Poses of three keypoints: some not labelled, one object with none, a crowd.
#[test]
fn keypoints_are_judged_as_the_reference_does() {
    let pose = |rect: [f64; 4], keypoints: [[f64; 3]; 3]| TrueBox {
        area: rect[2] * rect[3] * 0.5,
        keypoints: keypoints.to_vec(),
        ..truth(1, rect)
    };
    let posed = |score, points: [[f64; 2]; 3]| Found {
        keypoints: points.iter().map(|[x, y]| [*x, *y, 1.0]).collect(),
        ..found(1, score, [0.0; 4])
    };
    let crowd = TrueBox {
        crowd: true,
        ..pose(
            [0.0, 100.0, 90.0, 90.0],
            [[10.0, 120.0, 2.0], [50.0, 150.0, 2.0], [80.0, 180.0, 2.0]],
        )
    };
    let images = [
        (
            vec![
                pose(
                    [0.0, 0.0, 80.0, 80.0],
                    [[10.0, 10.0, 2.0], [40.0, 40.0, 1.0], [70.0, 75.0, 2.0]],
                ),
                pose(
                    [100.0, 0.0, 200.0, 200.0],
                    [[110.0, 10.0, 2.0], [0.0; 3], [290.0, 180.0, 1.0]],
                ),
                pose([200.0, 200.0, 50.0, 50.0], [[0.0; 3]; 3]),
            ],
            vec![
                posed(0.9, [[12.0, 10.0], [43.0, 44.0], [71.0, 75.0]]),
                posed(0.8, [[111.0, 14.0], [200.0, 90.0], [270.0, 190.0]]),
                posed(0.7, [[160.0, 170.0], [210.0, 220.0], [299.0, 260.0]]),
                posed(0.6, [[400.0, 400.0], [401.0, 401.0], [420.0, 420.0]]),
            ],
        ),
        (
            vec![
                pose(
                    [0.0, 0.0, 90.0, 90.0],
                    [[10.0, 20.0, 2.0], [50.0, 50.0, 2.0], [80.0, 80.0, 2.0]],
                ),
                crowd,
            ],
            vec![
                posed(0.85, [[15.0, 20.0], [50.0, 60.0], [80.0, 100.0]]),
                posed(0.95, [[11.0, 121.0], [50.0, 150.0], [80.0, 180.0]]),
                posed(0.94, [[11.0, 121.0], [51.0, 150.0], [80.0, 180.0]]),
            ],
        ),
    ];
    let similarity = Similarity::Keypoints {
        sigmas: vec![0.026, 0.079, 0.107],
    };
    let precision = measured(&images, &[1], &similarity);
    assert_eq!(precision.resampled_names(), ["oks-map", "oks-map50"]);
    all_same(
        &precision.figures(),
        &[
            ("oks-map", Some(0.42178217821782177)),
            ("oks-map50", Some(0.5544554455445545)),
            ("oks-map75", Some(0.5544554455445545)),
            ("oks-map-medium", Some(0.4039603960396039)),
            ("oks-map-large", Some(0.6999999999999998)),
            ("oks-ar", Some(0.5)),
            ("oks-ar50", Some(0.6666666666666666)),
            ("oks-ar75", Some(0.6666666666666666)),
            ("oks-ar-medium", Some(0.4)),
            ("oks-ar-large", Some(0.7)),
        ],
    );
}
