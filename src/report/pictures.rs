//! Pictures of what went wrong: an image with the boxes that a model finds, lost and found anew.

use image::{Rgb, RgbImage};

use crate::evaluate::{Fate, Fates};

/// The colour of a box by what became of it.
fn colour(fate: Fate) -> Rgb<u8> {
    match fate {
        Fate::Found => Rgb([60, 200, 80]),
        Fate::Weaker => Rgb([250, 190, 40]),
        Fate::Lost => Rgb([230, 40, 40]),
        Fate::New => Rgb([60, 110, 250]),
    }
}

/// What the colours say.
pub const LEGEND: &str = "green: found by both, yellow: found with a lower score, red: lost, blue: new";

/// Draws the boxes on their image, those that both find below the others.
pub fn draw(image: &mut RgbImage, fates: &Fates) {
    let thick = (image.width().max(image.height()) / 300).max(2);
    let mut boxes: Vec<&([f64; 4], Fate)> = fates.boxes.iter().collect();
    boxes.sort_by_key(|(_, fate)| *fate != Fate::Found);
    for (rect, fate) in boxes {
        outline(image, rect, thick, colour(*fate));
    }
}

/// The border of a box, inside of it, where it is on the image.
fn outline(image: &mut RgbImage, [left, top, width, height]: &[f64; 4], thick: u32, colour: Rgb<u8>) {
    let edge = |value: f64, most: u32| value.round().clamp(0.0, f64::from(most)) as u32;
    let (x0, y0) = (edge(*left, image.width()), edge(*top, image.height()));
    let (x1, y1) = (
        edge(left + width, image.width()),
        edge(top + height, image.height()),
    );
    for y in y0..y1 {
        for x in x0..x1 {
            let inside = x >= x0 + thick && x + thick < x1 && y >= y0 + thick && y + thick < y1;
            if !inside {
                image.put_pixel(x, y, colour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_drawn_inside_and_cut_at_the_edge() {
        let mut image = RgbImage::new(20, 20);
        let fates = Fates {
            sample: 0,
            boxes: vec![
                ([2.0, 3.0, 10.0, 10.0], Fate::Lost),
                ([15.0, 15.0, 50.0, 50.0], Fate::New),
            ],
        };
        draw(&mut image, &fates);
        assert_eq!(image.get_pixel(2, 3).0, [230, 40, 40]);
        assert_eq!(image.get_pixel(11, 12).0, [230, 40, 40]);
        assert_eq!(image.get_pixel(6, 7).0, [0, 0, 0]);
        assert_eq!(image.get_pixel(19, 19).0, [60, 110, 250]);
    }
}
