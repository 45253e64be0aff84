// `--compute int8`: weights of signed bytes that are meant to meet rounded activations are multiplied as whole numbers, as engines
// run W8A8, and GGUF's blocks, as llama.cpp runs them; all others in float32.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

internal import Synchronization

/// The arithmetic of products.
package enum Compute: String, Sendable, CaseIterable {
  /// Activations as they are, float32 throughout.
  case float32
  /// Whole numbers where weight and activations are declared to be INT8 and for GGUF's blocks, float32 elsewhere.
  case int8

  /// An arithmetic by its name.
  /// - Throws: `RequestError` usage for another word.
  package static func named(_ name: String) throws -> Compute {
    guard let compute = Compute(rawValue: name) else {
      throw unknownName(name, kind: "arithmetic", among: allCases.map(\.rawValue))
    }
    return compute
  }
}

/// Which weights were multiplied as whole numbers.
final class IntegerTally: Sendable {
  private let names = Mutex<Set<WeightName>>([])

  func add(_ name: WeightName) { names.withLock { _ = $0.insert(name) } }
  var count: Int { names.withLock(\.count) }

  /// One line for a person; a warning where the arithmetic that was asked for did not run at all.
  func report(to progress: any ProgressReporter) {
    let count = count
    guard count > 0 else {
      return progress.warn(
        "no weight was multiplied in int8: none is INT8 and declared to meet INT8 activations, or of a GGUF block type"
      )
    }
    progress.announce(
      "\(count) weight\(count == 1 ? " was" : "s were") multiplied in int8, the others in float32")
  }
}

/// Weights of which GGUF's blocks, and those that a result declares to be W8A8, are multiplied as whole numbers.
struct IntegerWeights<Base: Weights>: ForwardingWeights {
  let base: Base
  let rounding: ActivationRounding
  let tally: IntegerTally

  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    try rounding.integerProduct(x, name, try base.weight(name), rows: rows, tally, parallel)
      ?? base.multiply(x, name, rows: rows, parallel: parallel)
  }
  func multiply(_ products: [(x: Matrix, name: WeightName)], parallel: Parallel) throws -> [Matrix] {
    if let all = try rounding.integerProducts(
      products.map { ($0.x, $0.name, try base.weight($0.name)) }, tally, parallel)
    {
      return all
    }
    return try products.map { try multiply($0.x, $0.name, rows: nil, parallel: parallel) }
  }
}

/// How activations become signed bytes.
private struct IntegerInput {
  /// One scale for all; nil for one a token or a block.
  let scale: Float?
}

extension ActivationRounding {
  /// The product of whole numbers with a weight, where both sides are rounded to signed bytes: under one scale a token or one for all, or
  /// in blocks of the weight's GGUF type; nil elsewhere. It equals the float32 product of the rounded activations but for the rounding of
  /// sums.
  func integerProduct(
    _ x: Matrix, _ name: WeightName, _ weight: Weight, rows: Range<Int>?, _ tally: IntegerTally,
    _ parallel: Parallel
  ) throws -> Matrix? {
    guard let input = integerInput(name, weight.encoding) else { return nil }
    let product = multiplyIntegers(x, weight, scale: input.scale, rows: rows, parallel: parallel)
    if product != nil { tally.add(name) }
    return product
  }

  /// Several such products as one piece of work; nil unless all are of whole numbers.
  func integerProducts(
    _ products: [(x: Matrix, name: WeightName, weight: Weight)], _ tally: IntegerTally, _ parallel: Parallel
  ) throws -> [Matrix]? {
    let inputs = products.map { integerInput($0.name, $0.weight.encoding) }
    guard !inputs.contains(where: { $0 == nil }) else { return nil }
    let all = multiplyIntegers(
      zip(products, inputs).map { ($0.x, $0.weight, $1?.scale) }, parallel: parallel)
    if all != nil { for product in products { tally.add(product.name) } }
    return all
  }

  /// How activations become signed bytes before a weight: in blocks, under a fixed scale, or under one for each token. Nil where they do
  /// not.
  private func integerInput(_ name: WeightName, _ encoding: any Encoding) -> IntegerInput? {
    guard let block = activationBlock(encoding) else { return nil }
    guard block == Int.max else {  // GGUF's blocks have blocks of activations
      return kind == .gguf || kind == .declared ? IntegerInput(scale: nil) : nil
    }
    switch kind {
    case .int8: return IntegerInput(scale: nil)
    case .staticInt8: return IntegerInput(scale: ranges[name].flatMap { $0 > 0 ? $0 / INT8.largest : nil })
    case .fp8, .staticFP8, .gguf: return nil
    case .declared:
      guard let input = declared.inputs[name], !input.isFloat else { return nil }
      guard input.form == .token || input.form == .tensor else { return nil }
      return IntegerInput(scale: input.scale == nil ? nil : input.fused ?? input.scale?.multiplier)
    }
  }
}

extension Model {
  /// What a pass in this arithmetic multiplies by.
  /// - Throws: refusals of declared scales.
  func multiplying(_ base: any Weights, as compute: Compute, _ tally: IntegerTally) throws -> any Weights {
    guard compute == .int8 else { return base }
    func integers(_ base: some Weights) throws -> any Weights {
      IntegerWeights(base: base, rounding: try ActivationRounding(.declared, for: self), tally: tally)
    }
    return try integers(base)
  }
}
