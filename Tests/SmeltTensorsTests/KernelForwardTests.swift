// Sinkhorn, pooling over slots and clamped SwiGLU: the C functions against their Swift twins bit for bit, and both
// against numbers computed elsewhere.

import CKernels
import SmeltTensors
import SmeltTestSupport
import Testing

/// The published vectors have nine digits.
private let vectorBound: Float = 1e-6

@Suite struct KernelForwardTests {
  private static let logits: [Float] = [1, 0, -1, 0.5, 0, 2, 0, 0, -0.5, 0.25, 0.75, -2, 0.1, 0.2, 0.3, 0.4]

  @Test(arguments: [
    (
      1,
      [
        0.509399176, 0.121779263, 0.068785787, 0.407749087, 0.103446491, 0.496716797, 0.103214175,
        0.136520267, 0.157340154, 0.216454640, 0.547935188, 0.046332907, 0.229813084, 0.165048659,
        0.280063778, 0.409396321,
      ] as [Float]
    ),
    (
      20,
      [
        0.468887806, 0.096475028, 0.058793548, 0.375842720, 0.135489210, 0.559923649, 0.125530317,
        0.179055840, 0.175049067, 0.207261249, 0.566069424, 0.051619314, 0.220572963, 0.136339128,
        0.249605790, 0.393481135,
      ]
    ),
  ])
  func sinkhornGivesThePublishedMatrix(iterations: Int, expected: [Float]) {
    var found = Self.logits
    sk_sinkhorn(&found, 4, Int32(iterations), 1e-6)
    for (found, expected) in zip(found, expected) { #expect(abs(found - expected) < vectorBound) }
    let twin = Reference.sinkhorn(Self.logits, m: 4, iterations: iterations, eps: 1e-6)
    expectSame(found, twin, "\(iterations) rounds")
  }

  @Test func sinkhornEqualsItsTwin() {
    var generator = Generator(seed: 11)
    for m in 1...16 {
      for iterations in [1, 2, 5, 20] {
        let logits = generator.normals(m * m, 3)
        var found = logits
        sk_sinkhorn(&found, m, Int32(iterations), 1e-6)
        expectSame(
          found, Reference.sinkhorn(logits, m: m, iterations: iterations, eps: 1e-6), "\(m), \(iterations)")
      }
    }
  }

  /// After many rounds every row and column sums to 1, up to the eps that each division adds.
  @Test func sinkhornEndsDoublyStochastic() {
    var generator = Generator(seed: 12)
    var c = generator.normals(16)
    sk_sinkhorn(&c, 4, 100, 1e-6)
    for line in 0..<4 {
      #expect(abs((0..<4).reduce(0) { $0 + c[line * 4 + $1] } - 1) < 1e-5)
      #expect(abs((0..<4).reduce(0) { $0 + c[$1 * 4 + line] } - 1) < 1e-5)
    }
  }

  private func pool(_ k: [[Float]], _ g: [[Float]]) -> [Float] {
    let n = k[0].count
    var out = [Float](repeating: .nan, count: n + 1)
    let (flatK, flatG) = (k.flatMap { $0 }, g.flatMap { $0 })
    flatK.withUnsafeBufferPointer { k0 in
      flatG.withUnsafeBufferPointer { g0 in
        let kSlots = k.indices.map { Optional(k0.baseAddress! + $0 * n) }
        let gSlots = g.indices.map { Optional(g0.baseAddress! + $0 * n) }
        sk_pool_slots(kSlots, gSlots, k.count, &out, n)
      }
    }
    #expect(out[n].isNaN, "wrote beyond the end")
    return Array(out.dropLast())
  }

  /// Channels are pooled 256 at a time; lengths around that, one slot, and the eight of an overlapping window.
  @Test func poolSlotsEqualsItsTwin() {
    var generator = Generator(seed: 13)
    for n in [1, 2, 15, 16, 17, 255, 256, 257, 512, 600] {
      for slots in [1, 2, 4, 8, 128] {
        let k = (0..<slots).map { _ in generator.normals(n) }
        let g = (0..<slots).map { _ in generator.normals(n, 4) }
        expectSame(pool(k, g), Reference.poolSlots(k, g), "\(slots) slots of \(n)")
      }
    }
  }

  /// Each channel has a softmax of its own: equal logits give the mean, one large logit its slot.
  @Test func poolSlotsWeighsEachChannelAlone() {
    #expect(pool([[2, 10], [4, 20]], [[0.5, 100], [0.5, 0]]) == [3, 10])
    #expect(pool([[7]], [[-1000]]) == [7])
  }

  /// The last of the published numbers has five digits, the others nine.
  @Test(
    arguments: [
      (1, 2, 1.4621172, 1e-6), (12, 3, 29.9986382, 1e-6), (2, -50, -17.6159401, 1e-6),
      (15, 15, 99.9954605, 1e-6), (-30, 5, -1.4036e-11, 1e-4),
    ] as [(Float, Float, Float, Float)])
  func swigluClampsTheGateFromAboveAndUpOnBothSides(
    gate: Float, up: Float, expected: Float, bound: Float
  ) {
    var found: Float = 0
    sk_swiglu([gate], [up], 10, &found, 1)
    #expect(abs(found - expected) <= abs(expected) * bound)
    #expect(found == Reference.swiglu(gate, up, limit: 10))
  }
}
