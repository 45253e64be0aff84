// A result as an engine computes with it: fused matrices with the one number that they keep, activations rounded as declared. The
// rules of the check say which number that is.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// How an engine's arithmetic differs from that of the weights by themselves.
package struct EngineRun: Sendable {
  /// The engine.
  package let engine: Engine
  /// The version whose rules are followed.
  package let version: String
  /// Weights whose numbers are others, with the number of the whole weight that they get.
  let numbers: [WeightName: Float]
  /// How activations are rounded before each weight: as the result declares, with the scales that the engine keeps.
  let rounding: ActivationRounding

  /// Weights of a result that the engine's number changes.
  package var changedWeights: Int { numbers.count }
  /// Weights that meet rounded activations.
  package var roundedWeights: Int { rounding.declared.inputs.count }

  /// What an engine does to a result.
  /// - Throws: `RequestError` unsupported where it does not load it, usage for an engine that is not followed; refusals of content.
  package init(_ engine: Engine, for model: Model) throws {
    guard Engine.simulated.contains(engine) else {
      throw RequestError(
        .usage,
        "--as \(engine.rawValue) is not followed: \(engine.title) fuses no numbers and rounds no activations as declared",
        help: "one of " + Engine.simulated.map(\.rawValue).joined(separator: ", ")
          + "; --activations gguf rounds as llama.cpp does")
    }
    let check = try checkEngine(model, for: engine)
    if let first = check.findings.first, first.rule.outcome == .refuses {
      throw RequestError(
        .unsupported, "\(engine.title) does not load '\(model.path)': it \(first.rule.says)",
        help: "`smelt check MODEL --for \(engine.rawValue)` says where")
    }
    self.engine = engine
    version = check.version
    let view = try EngineView(model, engine)
    numbers = try EngineRun.numbers(view)
    rounding = ActivationRounding(
      EngineRun.scales(try model.declaredScales().sound(model.family.weights), view))
  }

  /// The numbers that parts of fused matrices get in place of their own, by the table's rows.
  private static func numbers(_ view: EngineView) throws -> [WeightName: Float] {
    var numbers: [WeightName: Float] = [:]
    for rule in EngineRules.of(view.engine) where rule.concernsMethod(view) {
      guard case .number(let scope, let taken) = rule.condition else { continue }
      for matrix in view.matrices where matrix.isExpert == (scope == .experts) || scope == .all {
        guard EngineNames.fuses(matrix.name, view.engine),
          matrix.parts.allSatisfy({ rule.concerns(view.weights[$0]) })
        else { continue }
        let own = try matrix.parts.compactMap { try view.number(view.weights[$0]) }
        guard own.count == matrix.parts.count, let largest = own.max() else { continue }
        let kept = taken == .first ? own[0] : largest
        for (place, number) in zip(matrix.parts, own) where number != kept {
          numbers[view.weights[place].spec.name] = kept
        }
      }
    }
    return numbers
  }

  /// The scales of activations that the engine keeps of what the result stores.
  private static func scales(_ declared: DeclaredScales, _ view: EngineView) -> DeclaredScales {
    var declared = declared
    for name in declared.inputs.keys { declared.inputs[name]?.fused = nil }
    func share(_ places: [Int], smallest: Bool) {
      let names = places.map { view.weights[$0].spec.name }
      let scales = names.compactMap { declared.inputs[$0]?.scale?.multiplier }
      guard let kept = smallest ? scales.min() : scales.max() else { return }
      for name in names where declared.inputs[name]?.scale != nil { declared.inputs[name]?.fused = kept }
    }
    // A fused matrix has one stored scale for what its parts read, a layer's experts one for gate and up and one for down: the
    // largest. Of compressed-tensors' NVFP4, whose scales are divisors, a fused matrix keeps the largest divisor. Sources: vLLM 0.33.0,
    // CT/schemes/compressed_tensors_w8a8_fp8.py and compressed_tensors_w4a4_nvfp4.py, layers/quantization/utils/fp8_utils.py
    // (process_fp8_input_tensor_strategy_moe); SGLang 0.5.23, CT/schemes/compressed_tensors_w4a4_nvfp4_moe.py (min of divisors).
    for matrix in view.matrices where !matrix.isExpert && EngineNames.fuses(matrix.name, view.engine) {
      let isDivided = view.weights[matrix.parts[0]].kind == .nvfp4 && view.quantization.isCompressed
      share(matrix.parts, smallest: isDivided)
    }
    for (_, places) in view.experts {
      share(places.filter { view.weights[$0].spec.role != .routedDown }, smallest: false)
      share(places.filter { view.weights[$0].spec.role == .routedDown }, smallest: false)
    }
    return declared
  }

  /// A model's weights as the engine computes with them.
  func weights(_ base: some Weights, _ parallel: Parallel, integers: IntegerTally? = nil) -> any Weights {
    RoundedActivations(
      base: EngineWeights(base: base, run: self, parallel: parallel), rounding: rounding, integers: integers)
  }
}

extension EngineRule {
  /// Whether a rule is about a model's method and family.
  func concernsMethod(_ view: EngineView) -> Bool {
    let method = view.quantization.method.map { $0.hasPrefix("modelopt") ? "modelopt" : $0 } ?? "none"
    return (methods.isEmpty || methods.contains(method))
      && (families.isEmpty || !view.types.isDisjoint(with: families))
  }
}

/// Weights whose numbers are the engine's.
struct EngineWeights<Base: Weights>: ForwardingWeights {
  let base: Base
  let run: EngineRun
  let parallel: Parallel
  private let built = BuiltWeights()

  init(base: Base, run: EngineRun, parallel: Parallel) {
    (self.base, self.run, self.parallel) = (base, run, parallel)
  }

  func weight(_ name: WeightName) throws -> Weight {
    guard let number = run.numbers[name] else { return try base.weight(name) }
    if let kept = built.find(name) { return kept }
    let weight = try base.weight(name).renumbered(number, parallel)
    built.keep(name, weight)
    return weight
  }

  func finished(_ name: WeightName) {
    built.remove(name)
    base.finished(name)
  }

  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    guard run.numbers[name] != nil else {
      return try base.multiply(x, name, rows: rows, parallel: parallel)
    }
    return SmeltTensors.multiply(x, try weight(name), rows: rows, parallel: parallel)
  }
}

extension Weight {
  /// The weight with another number for all of it: NVFP4's codes and group scales as they are under another global scale, FP8's codes
  /// rounded again to another scale.
  /// - Throws: refusals of parts that do not fit, which parts of a weight never are.
  fileprivate func renumbered(_ number: Float, _ parallel: Parallel) throws -> Weight {
    let stored = withUnsafeBytes(of: number.bitPattern.littleEndian) { Bytes(Array($0)) }
    if encoding is NVFP4 {
      let parts = parts.map {
        $0.name == .globalScale ? Part(.globalScale, dtype: .f32, shape: [1], bytes: stored) : $0
      }
      return try Weight(name: name, shape: shape, encoding: encoding, parts: parts, file: file)
    }
    guard let fp8 = encoding as? FP8, fp8.granularity == .tensor else { return self }
    let (rows, columns) = (rows, columns)
    var codes = [UInt8](repeating: 0, count: rows * columns)
    codes.withUnsafeMutableBufferPointer { codes in
      guard let base = codes.baseAddress else { return }
      // SAFETY: every row is written by one task, `columns` codes at its place; the array is lent until all tasks are done.
      let target = SharedPointer(base)
      parallel.forEach(rows) { row in
        decode(rows: row..<row + 1).withUnsafeBufferPointer { numbers in
          guard let numbers = numbers.baseAddress else { return }
          fp8.encode(numbers, count: columns, scale: number, into: target.pointer + row * columns)
        }
      }
    }
    return try Weight(
      name: name, shape: shape, encoding: encoding,
      parts: [
        Part(.values, dtype: fp8.format.dtype, shape: shape, bytes: Bytes(codes)),
        Part(.scales, dtype: .f32, shape: [1], bytes: stored),
      ], file: file)
  }
}
