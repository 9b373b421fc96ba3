//! Rewrites docs/accuracy.md from the measured rows: `cargo run --example accuracy`.

mod left_out;
mod score;
mod table;

fn main() {
    let scores = score::all();
    for quantity in score::Quantity::ALL {
        println!("== {}", quantity.title());
        for point in scores.points.iter().filter(|point| point.quantity == quantity) {
            println!(
                "{:60} {:10.3} {:10.3} {:+.2}% {}",
                point.id,
                point.measured,
                point.estimated,
                point.error() * 100.0,
                point.left_out.unwrap_or("")
            );
        }
    }
    for (id, why) in &scores.unread {
        println!("-- {id}: {why}");
    }
}
