// Conditions on groups of integers that depend on what the configuration says of activations.

import SmeltModels
import SmeltStorage
import SmeltTensors

extension EngineRule {
  /// Integers whose activations are rounded to FP8, by groups of other lengths than the engine's kernel has,
  /// or with channels that its
  /// tiles do not divide; a layer's experts are one case.
  func groupCases(
    _ view: EngineView, _ scope: EngineScope, _ found: [EngineFound?], _ lengths: [Int]?,
    _ multiple: Int?
  ) -> [EngineCase] {
    var seen: Set<String> = []
    return view.weights.enumerated().compactMap { place, weight in
      guard concerns(weight), scope.holds(weight), case .scheme(let scheme) = found[place],
        let inputs = scheme.activations, inputs.isFloat, inputs.bits == 8
      else { return nil }
      let length = weight.columnsPerScale ?? -1
      let shape = weight.spec.shape
      // The hidden channels of an expert are shared by devices.
      let (rows, columns) =
        weight.split == .columns
        ? (shape.rows, shape.columns / view.shards) : (shape.rows / view.shards, shape.columns)
      let answer: String
      if let lengths, !lengths.contains(length) {
        answer = "has \(length == -1 ? "a scale a channel" : "groups of \(length)"), activations in FP8"
      } else if let multiple, rows % multiple != 0 || columns % multiple != 0 {
        answer = "is \(rows) × \(columns) a device, no multiples of \(multiple)"
      } else {
        return nil
      }
      let subject = weight.isExpert ? view.expertsModule([place]) ?? weight.module : weight.module
      return seen.insert(subject).inserted ? EngineCase(subject: subject, found: answer) : nil
    }
  }
}
