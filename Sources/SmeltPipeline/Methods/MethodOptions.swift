// What is asked of a method, the weights it is for, and which one it is where nobody asked. Formats/methods.md.

import SmeltModels
package import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// How a method is carried out.
package struct MethodOptions: Sendable {
  /// The method.
  package var method: Method
  /// GPTQ's settings.
  package var gptq = GPTQ()
  /// Whether a layer sees what the layers before it give once they are quantized, or what the source gives.
  package var isSequential = false
  /// An expert that fewer tokens reach is rounded to nearest.
  package var minTokens = 32
  /// Rounds of refinement against the source's own outputs.
  package var distillRounds = 0
  /// Whether nobody asked for a method: `settled(for:)` chooses it then.
  package private(set) var isOpen = false

  /// A method with its usual settings.
  package init(_ method: Method) { self.method = method }

  /// A method of a name, with its usual settings; without a name the plan's weights decide.
  /// - Throws: `RequestError` usage.
  package init(named text: String?) throws {
    self.init(try text.map { try Method.named($0) } ?? .rtn)
    isOpen = text == nil
  }

  /// A method of a name with GPTQ's settings as given.
  /// - Throws: `RequestError` usage.
  package init(named text: String?, damping: Double?, ordersByActivation: Bool) throws {
    try self.init(named: text)
    gptq = GPTQ(damping: damping, ordersByActivation: ordersByActivation)
  }

  /// Refuses settings that no method has.
  /// - Throws: `RequestError` usage.
  package func check() throws {
    guard gptq.damping.map({ $0 > 0 && $0 <= 1 }) ?? true else {
      throw RequestError(.usage, "--damping is above 0 and at most 1")
    }
    guard (0...100).contains(distillRounds) else {
      throw RequestError(.usage, "--distill is 0 to 100 rounds")
    }
    guard (0...1 << 20).contains(minTokens) else {
      throw RequestError(.usage, "--method-tokens is 0 to \(1 << 20)")
    }
  }

  /// The names, for shells and for help.
  package static var methods: [String] { Method.allCases.map(\.rawValue) }
  package static var methodNames: String { methods.joined(separator: ", ") }

  /// What a result says of how it was made; null for rounding to nearest.
  var json: JSON {
    guard needsInputs else { return JSON(.null) }
    var members: [(String, JSON)] = [("name", JSON(method.rawValue))]
    if method == .gptq {
      members += [
        ("damping", gptq.damping.map { JSON($0) } ?? JSON(.null)),
        ("act_order", JSON(gptq.ordersByActivation)),
        ("inputs", JSON(isSequential ? "result" : "source")),
      ]
    }
    if needsMoments { members.append(("min_tokens", JSON(minTokens))) }
    if distillRounds > 0 { members.append(("distill", JSON(distillRounds))) }
    return JSON(members: members)
  }

  /// Whether the calibration inputs themselves are needed, more than their statistics.
  package var needsInputs: Bool { method != .rtn || distillRounds > 0 }
  /// Whether moments of inputs are gathered while layers run.
  var needsMoments: Bool { method == .gptq || distillRounds > 0 }

  /// Bytes that a weight with so many inputs takes while it is rounded: its moments, and their factor on the way.
  func momentBytes(_ columns: Int) -> Int { columns * columns * (distillRounds > 0 ? 24 : 16) }

  /// Weights whose moments would take more than half of the memory allowed; the other half is the activations'. An expert's
  /// are there alone, those of a layer's other weights together.
  func tooLarge(_ targets: [WeightName: MethodTarget], maxMemory: Int) -> Set<WeightName> {
    var left = Set(targets.filter { momentBytes($1.spec.shape.columns) > maxMemory / 2 }.keys)
    let dense = targets.values.map(\.spec).filter { !$0.role.isRouted && !left.contains($0.name) }
    for layer in Set(dense.map(\.layer)) {
      let own = dense.filter { $0.layer == layer }.sorted {
        ($0.shape.columns, $0.name.description) < ($1.shape.columns, $1.name.description)
      }
      var held = 0
      for spec in own {
        let columns = spec.shape.columns
        let moments = columns * columns * spec.inputGroups * (distillRounds > 0 ? 8 : 4)
        if held + momentBytes(columns) > maxMemory / 2 {
          left.insert(spec.name)
        } else {
          held += moments
        }
      }
    }
    return left
  }
}

/// The weights of a plan that a method will encode: those whose new encoding is a grid.
func methodTargets(_ plan: Plan, _ options: ConvertOptions) throws -> [WeightName: MethodTarget] {
  var targets: [WeightName: MethodTarget] = [:]
  for planned in plan.weights where !planned.isKept && planned.stored.spec.isMultiplied {
    let (spec, scheme) = (planned.stored.spec, planned.decision.scheme)
    let encoding = scheme.encoding(for: planned.stored.encoding, shape: spec.shape)
    let scales = try encoding.layout(of: spec.shape, name: spec.name.description)
      .first { $0.name == .scales }.map { scheme.dtype(of: $0) }
    guard scheme.isLossy, let grid = Grid(encoding, shape: spec.shape, scales: scales) else { continue }
    var decision = try options.recipe.decide(
      spec, source: planned.stored.encoding, statistics: nil)
    decision.scheme = scheme
    targets[spec.name] = MethodTarget(spec: spec, decision: decision, grid: grid)
  }
  return targets
}

extension MethodOptions {
  /// The method that is meant: the one asked for, or where none was, `gptq` if a weight becomes four bits on a grid, else `rtn`. Announces
  /// its choice.
  func settled(for model: Model, _ options: ConvertOptions) throws -> MethodOptions {
    guard isOpen else { return self }
    var settled = self
    settled.isOpen = false
    let four = try methodTargets(try Plan(model, options), options).values.filter { $0.grid.isFourBit }
    guard !four.isEmpty else { return settled }
    settled.method = .gptq
    options.run.progress.announce(settled.choice)
    return settled
  }

  /// What is said where a method was taken that nobody asked for.
  var choice: String {
    "method: \(method.rawValue), since weights become four bits (--method rtn leaves it away)"
  }
}
