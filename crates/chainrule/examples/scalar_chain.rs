//! The chain rule on one number: y = exp(sin(x²)), every factor of dy/dx printed.
//!
//! Each link is differentiated alone, at the value that the links before it gave. The product of these factors is
//! the gradient of the whole.

use chainrule::prelude::*;

type Link = (&'static str, fn(&Tensor) -> Tensor);

fn main() {
    let links: [Link; 3] = [("u = x²   ", |x| x * x), ("v = sin u", |u| u.sin()), ("y = eᵛ   ", |v| v.exp())];

    let x = Tensor::from(0.7);
    let (mut value, mut product) = (x.clone(), 1.0);
    for (name, link) in links {
        let (next, slope) = value_and_grad(link, &value);
        let (at, slope) = (value.item::<f64>(), slope.item::<f64>());
        println!("{name}  at {at:.6}: value {:.6}, slope {slope:.6}", next.item::<f64>());
        product *= slope;
        value = next;
    }

    let whole = |x: &Tensor| links.iter().fold(x.clone(), |value, (_, link)| link(&value));
    let slope = grad(whole, &x).item::<f64>();
    println!("product of the slopes {product:.15}");
    println!("grad of the whole     {slope:.15}");
    assert!((product - slope).abs() < 1e-15);
}
