// The gated delta rule, the state space and the short convolution: against their twins in double precision, whole and in pieces, and
// on every instruction set the same bits.

import CKernels
import SmeltTensors
import SmeltTestSupport
import Testing

/// The largest error, as a share of the largest number, that a float32 state may have gathered.
private let bound = 1e-5

@Suite struct KernelSequenceTests {
  /// What a call gets: one key head, its value heads.
  private struct Inputs {
    var shape: StateShape
    var tokens: Int
    var queries: [Float]
    var keys: [Float]
    var values: [Float]
    var decay: [Float]
    var beta: [Float]
    var rates: [Float]
    var skip: [Float]
    var state: [Float]
    var isSpace = false

    init(_ shape: StateShape, tokens: Int, seed: UInt64, decay: Decay, each: Bool, beta: Float?) {
      var generator = Generator(seed: seed)
      self.shape = shape
      self.tokens = tokens
      queries = generator.normals(tokens * shape.keyWidth)
      keys = generator.normals(tokens * shape.keyWidth)
      values = generator.normals(tokens * shape.valueCount)
      self.decay = (0..<tokens * shape.valueHeads * (each ? shape.keyWidth : 1)).map { _ in
        switch decay {
        case .none: return 0
        case .strong: return -20
        case .mixed:
          let x = generator.float()
          return -12 * x * x * x * x
        }
      }
      self.beta = (0..<tokens * shape.valueHeads).map { _ in beta ?? abs(generator.float()) }
      rates = (0..<shape.valueHeads).map { _ in
        decay == .none ? 0 : decay == .strong ? -40 : -abs(generator.float())
      }
      skip = generator.normals(shape.valueHeads)
      state = generator.normals(shape.stateCount)
    }

    /// Outputs, and the states where they go on.
    func twin(from start: [Float]?) -> (out: [Double], state: [Double]) {
      var state = start?.map(Double.init) ?? [Double](repeating: 0, count: shape.stateCount)
      let out =
        isSpace
        ? Reference.stateSpace(
          shape, c: queries, b: keys, x: values, steps: beta, rates: rates, skip: skip, state: &state)
        : Reference.deltaRule(
          shape, queries: queries, keys: keys, values: values, decay: decay, beta: beta, state: &state)
      return (out, state)
    }

    /// The same by the kernel, in calls of these lengths, the last one again and again.
    func kernel(from start: [Float]?, pieces: [Int]) -> (out: [Float], state: [Float]) {
      var state = start ?? []
      var out = [Float](repeating: .nan, count: values.count)
      var place = 0
      var turn = 0
      while place < tokens {
        let count = min(tokens - place, pieces[min(turn, pieces.count - 1)])
        if start == nil { call(place, count, nil, &out) } else { call(place, count, &state, &out) }
        place += count
        turn += 1
      }
      return (out, state)
    }

    private func call(
      _ place: Int, _ count: Int, _ state: UnsafeMutablePointer<Float>?, _ out: inout [Float]
    ) {
      let perToken = decay.count / tokens
      queries.withUnsafeBufferPointer { queries in
        keys.withUnsafeBufferPointer { keys in
          values.withUnsafeBufferPointer { values in
            decay.withUnsafeBufferPointer { decay in
              beta.withUnsafeBufferPointer { beta in
                rates.withUnsafeBufferPointer { rates in
                  skip.withUnsafeBufferPointer { skip in
                    out.withUnsafeMutableBufferPointer { out in
                      var call = sk_mixing()
                      call.tokens = count
                      call.heads = shape.valueHeads
                      call.key_width = shape.keyWidth
                      call.value_width = shape.valueWidth
                      call.queries = queries.baseAddress! + place * shape.keyWidth
                      call.keys = keys.baseAddress! + place * shape.keyWidth
                      call.key_stride = shape.keyWidth
                      call.values = values.baseAddress! + place * shape.valueCount
                      call.value_stride = shape.valueCount
                      call.out = out.baseAddress! + place * shape.valueCount
                      call.decay = decay.baseAddress! + place * perToken
                      call.decay_stride = perToken
                      call.each_channel = perToken == shape.valueHeads ? 0 : 1
                      call.beta = beta.baseAddress! + place * shape.valueHeads
                      call.beta_stride = shape.valueHeads
                      call.rates = rates.baseAddress!
                      call.skip = skip.baseAddress!
                      call.state = state
                      run(&call)
                    }
                  }
                }
              }
            }
          }
        }
      }
    }

    /// Scratch full of NaN, which nothing may come from, and a mark behind it.
    private func run(_ call: inout sk_mixing) {
      let floats = sk_mixing_floats(&call)
      let scratch = UnsafeMutableRawPointer.allocate(byteCount: 4 * (floats + 16), alignment: 64)
      defer { scratch.deallocate() }
      let base = scratch.bindMemory(to: Float.self, capacity: floats + 16)
      base.update(repeating: .nan, count: floats)
      (base + floats).update(repeating: 7, count: 16)
      call.scratch = base
      if isSpace { sk_state_space(&call) } else { sk_delta_rule(&call, 1e-6) }
      for i in 0..<16 where base[floats + i] != 7 { Issue.record("wrote behind the scratch") }
    }
  }

  /// How much a token forgets.
  private enum Decay: CaseIterable { case none, mixed, strong }

  private func check(_ inputs: Inputs, _ what: String) {
    let fresh = inputs.twin(from: nil)
    let continued = inputs.twin(from: inputs.state)
    var first: [[Float]] = []
    onEveryISA { isa in
      var found: [[Float]] = []
      let whole = inputs.kernel(from: nil, pieces: [inputs.tokens])
      expectNear(whole.out, fresh.out, "\(isa), \(what)")
      found.append(whole.out)
      for pieces in [[inputs.tokens], [1], [13, 64, 7], [50, 3]] {
        let part = inputs.kernel(from: inputs.state, pieces: pieces)
        expectNear(part.out, continued.out, "\(isa), \(what), in pieces of \(pieces)")
        // A state that has all but vanished is near in what it was.
        expectNear(
          part.state, continued.state, least: 1, "the state of \(isa), \(what), in pieces of \(pieces)")
        found += [part.out, part.state]
      }
      if first.isEmpty { first = found }
      for (found, expected) in zip(found, first) { expectSame(found, expected, "\(isa), \(what)") }
    }
  }

  private func expectNear(_ found: [Float], _ expected: [Double], least: Double = 0, _ what: String) {
    let largest = max(least, expected.reduce(0) { max($0, abs($1)) })
    let error = zip(found, expected).reduce(0.0) { sum, pair in
      let error = abs(Double(pair.0) - pair.1)
      return error <= sum ? sum : error  // NaN is kept
    }
    #expect(error <= bound * largest, "\(what): \(error) of \(largest)")
  }

  private static let lengths = [1, 2, 63, 64, 65, 128, 200]

  @Test(arguments: lengths) func deltaRuleIsItsTwin(tokens: Int) {
    let shape = StateShape(keyHeads: 1, valueHeads: 2, keyWidth: 20, valueWidth: 13)
    for each in [false, true] {
      for decay in Decay.allCases {
        for beta in [nil, 1] as [Float?] {
          let inputs = Inputs(
            shape, tokens: tokens, seed: UInt64(tokens), decay: decay, each: each, beta: beta)
          check(inputs, "\(tokens) tokens, \(decay) by \(each ? "channel" : "head"), β \(beta ?? .nan)")
        }
      }
    }
  }

  /// With β = 0 nothing is learned: what was there decays, and without a state nothing comes out.
  @Test func withoutBetaNothingIsLearned() {
    let shape = StateShape(keyHeads: 1, valueHeads: 2, keyWidth: 16, valueWidth: 32)
    for each in [false, true] {
      for tokens in [2, 65] {
        let inputs = Inputs(shape, tokens: tokens, seed: 3, decay: .mixed, each: each, beta: 0)
        check(inputs, "\(tokens) tokens")
        #expect(inputs.kernel(from: nil, pieces: [tokens]).out.allSatisfy { $0 == 0 })
      }
    }
  }

  @Test(arguments: lengths) func stateSpaceIsItsTwin(tokens: Int) {
    let shape = StateShape(keyHeads: 1, valueHeads: 3, keyWidth: 20, valueWidth: 13)
    for decay in Decay.allCases {
      var inputs = Inputs(
        shape, tokens: tokens, seed: UInt64(tokens), decay: decay, each: false, beta: nil)
      inputs.isSpace = true
      check(inputs, "\(tokens) tokens, \(decay)")
    }
  }

  /// The widths of published models, and one that has a rest beside whole strips.
  @Test func wideHeadsAreTheirTwins() {
    for (width, each) in [(128, false), (128, true), (72, true)] {
      let shape = StateShape(keyHeads: 1, valueHeads: 1, keyWidth: width, valueWidth: width)
      var inputs = Inputs(shape, tokens: 70, seed: 8, decay: .mixed, each: each, beta: nil)
      check(inputs, "width \(width)")
      guard !each else { continue }
      inputs.isSpace = true
      check(inputs, "width \(width), state space")
    }
  }

  /// The same key at every token, and two that take turns: the triangle to be solved is full, and nothing grows.
  @Test func keysThatAreAlikeDoNotGrow() {
    let shape = StateShape(keyHeads: 1, valueHeads: 1, keyWidth: 16, valueWidth: 16)
    for period in [1, 2] {
      for each in [false, true] {
        var inputs = Inputs(shape, tokens: 200, seed: 9, decay: .none, each: each, beta: 1)
        for place in inputs.keys.indices {
          inputs.keys[place] =
            inputs.keys[place % 16] * (place / 16 % period == 0 ? 1 : place % 3 == 0 ? -1 : 1)
        }
        check(inputs, "period \(period)")
      }
    }
  }

  /// A number that is none reaches all later outputs, and no chunk before its own.
  @Test func notANumberIsNotHidden() {
    let shape = StateShape(keyHeads: 1, valueHeads: 1, keyWidth: 16, valueWidth: 16)
    for isSpace in [false, true] {
      for each in isSpace ? [false] : [false, true] {
        var inputs = Inputs(shape, tokens: 100, seed: 10, decay: .none, each: each, beta: 0.5)
        inputs.isSpace = isSpace
        inputs.values[70 * 16] = .nan
        let out = inputs.kernel(from: nil, pieces: [100]).out
        let before = out[..<(64 * 16)]
        #expect(!before.contains { !$0.isFinite })
        let after = (70..<100).map { out[$0 * 16] }
        #expect(!after.contains { !$0.isNaN })
      }
    }
  }

  @Test func convolutionIsItsTwin() {
    var generator = Generator(seed: 14)
    for kernel in [1, 2, 4] {
      for channels in [1, 15, 16, 530] {
        let x = generator.normals(9 * channels)
        let before = generator.normals((kernel - 1) * channels)
        let weight = generator.normals(channels * kernel)
        let taps = (0..<kernel * channels).map { weight[$0 % channels * kernel + $0 / channels] }
        for bias in [nil, generator.normals(channels)] {
          for silu in [false, true] {
            let expected = Reference.convolve(
              x, before: before, weight, bias: bias, channels: channels, silu: silu)
            var first: [Float]?
            onEveryISA { isa in
              var out = [Float](repeating: .nan, count: x.count + 1)
              for (from, to) in [(0, 2), (2, 9)] {
                sk_convolve(x, before, taps, bias, kernel, from, to, channels, silu ? 1 : 0, &out)
              }
              #expect(out.removeLast().isNaN, "wrote beyond the end")
              expectNear(out, expected, "\(isa), \(kernel) taps, \(channels) channels")
              if let first { expectSame(out, first, isa) } else { first = out }
            }
          }
        }
      }
    }
  }
}
