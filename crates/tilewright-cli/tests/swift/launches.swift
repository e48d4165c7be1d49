// Reads launches from standard input, one a line: the kernel's number, then rank and extents of each tensor and its numbers.
// Prints what is encoded.

struct Memory: MTLBuffer { var length: Int { 1 << 60 } }
struct Pipeline: MTLComputePipelineState {}

struct Printer: MTLComputeCommandEncoder {
    func setComputePipelineState(_ state: MTLComputePipelineState) {}
    func setBuffer(_ buffer: MTLBuffer?, offset: Int, index: Int) { print("buffer", index, offset) }
    func setBytes(_ bytes: UnsafeRawPointer, length: Int, index: Int) {
        let all = UnsafeRawBufferPointer(start: bytes, count: length)
        print("bytes", index, all.map { String($0) }.joined(separator: " "))
    }
    func dispatchThreadgroups(_ grid: MTLSize, threadsPerThreadgroup threads: MTLSize) {
        print("grid", grid.width, grid.height, grid.depth, threads.width, threads.height, threads.depth)
    }
}

var numbers: [Int] = []
var next = 0

func int() -> Int {
    next += 1
    return numbers[next - 1]
}
func number() -> Int { int() }
func number() -> Int32 { Int32(int()) }
func number() -> UInt32 { UInt32(int()) }
func number() -> Float { Float(int()) }
func tensor<E: Element>() -> Tensor<E> {
    let rank = int()
    return Tensor(Memory(), offset: 32, shape: (0..<rank).map { _ in int() })
}

func show<K: TilewrightKernel>(_ kernel: K) {
    do {
        try kernel.encode(Pipeline(), into: Printer())
        print("end")
    } catch {
        print("error", error)
    }
}
