use tilewright_lang::prelude::*;

#[kernel]
pub fn copy_rows(x: View<f32, 1>, o: ViewMut<f32, 1>, rows: usize) {
    o.store(0, x.load(0, [rows]));
}

fn main() {
    let _ = CopyRows { rows: 8u32 }.trace();
    let _ = CopyRowsArgs { x: 1, y: 2 };
    let _ = CopyRowsArgs { x: 1 };
}
