// Conditions on dimensions: what several devices share is cut, and cuts must not part groups of scales.

import SmeltModels
import SmeltStorage
import SmeltTensors

extension EngineRule {
  /// Where a condition on dimensions speaks.
  func shapeCases(_ view: EngineView) -> [EngineCase] {
    switch condition {
    case .shardColumns(let scope): columnCases(view, scope)
    case .shardRows(let scope, let exceptLast): rowCases(view, scope, exceptLast: exceptLast)
    case .expertInputs(let multiple):
      experts(view) { weight in
        weight.spec.role != .routedDown && weight.spec.shape.columns % multiple != 0
          ? "has \(weight.spec.shape.columns) input channels, no multiple of \(multiple)" : nil
      }
    case .expertHidden(let multiple):
      experts(view) { weight in
        let rows = weight.spec.shape.rows
        return weight.spec.role != .routedDown && rows / view.shards % multiple != 0
          ? "has \(shard(rows, view)) output channels a device, no multiple of \(multiple)" : nil
      }
    case .shards: divisionCases(view)
    default: []
    }
  }

  private func shard(_ count: Int, _ view: EngineView) -> String {
    view.shards > 1 ? "\(count) / \(view.shards)" : "\(count)"
  }

  /// One case a layer of experts.
  private func experts(_ view: EngineView, _ ask: (EngineWeight) -> String?) -> [EngineCase] {
    view.experts.compactMap { _, places in
      for place in places where concerns(view.weights[place]) {
        if let found = ask(view.weights[place]) {
          return EngineCase(subject: view.weights[place].module, found: found)
        }
      }
      return nil
    }
  }

  /// Input channels of a device, of matrices that are cut along them, against the columns of a scale.
  private func columnCases(_ view: EngineView, _ scope: EngineScope) -> [EngineCase] {
    guard view.shards > 1 else { return [] }
    return each(view, scope) { weight in
      guard weight.split == .columns, let size = weight.columnsPerScale else { return nil }
      let columns = weight.spec.shape.columns
      guard columns % view.shards == 0, columns / view.shards % size != 0 else { return nil }
      return "has \(shard(columns, view)) input channels a device, scales for \(size) each"
    }
  }

  /// Output channels of a device against the rows of a block, of matrices that are cut along them or made of several.
  private func rowCases(_ view: EngineView, _ scope: EngineScope, exceptLast: Bool) -> [EngineCase] {
    var parts: [Int: Bool] = [:]
    for matrix in view.matrices where EngineNames.cutsParts(matrix.name, engine) {
      for place in matrix.parts { parts[place] = place == matrix.parts.last }
    }
    return view.weights.enumerated().compactMap { place, weight in
      guard concerns(weight), scope.holds(weight), let size = weight.rowsPerScale else { return nil }
      let isCut = weight.split == .rows && view.shards > 1
      let isPart = parts[place] != nil && !(exceptLast && parts[place] == true && !isCut)
      guard isCut || isPart else { return nil }
      let rows = weight.spec.shape.rows
      let own = isCut ? rowsOfShard(weight, view) : rows
      guard own % size != 0 else { return nil }
      return EngineCase(
        subject: weight.module,
        found:
          "has \(isCut ? shard(rows, view) : "\(rows)") output channels"
          + "\(isCut ? " a device" : ""), blocks of \(size)"
      )
    }
  }

  /// Output channels of a device; of keys and values at least a head.
  private func rowsOfShard(_ weight: EngineWeight, _ view: EngineView) -> Int {
    let rows = weight.spec.shape.rows
    guard weight.isKeyOrValue, let heads = view.text["num_key_value_heads"]?.integer, heads > 0,
      view.shards > heads
    else { return rows / view.shards }
    return rows / heads
  }

  /// Heads and channels that the devices cannot share evenly.
  private func divisionCases(_ view: EngineView) -> [EngineCase] {
    guard view.shards > 1 else { return [] }
    var cases: [EngineCase] = []
    if let heads = view.text["num_attention_heads"]?.integer, heads % view.shards != 0 {
      cases.append(
        EngineCase(subject: "num_attention_heads", found: "is \(heads), no multiple of \(view.shards)"))
    }
    var seen: Set<String> = []
    cases += each(view) { weight in
      let size: Int
      switch weight.split {
      case .rows
      where !weight.isKeyOrValue && weight.spec.role != .embedding && weight.spec.role != .outputHead:
        size = weight.spec.shape.rows
      case .columns: size = weight.spec.shape.columns
      default: return nil
      }
      guard size % view.shards != 0, seen.insert("\(weight.spec.role.rawValue) \(size)").inserted else {
        return nil
      }
      return
        "has \(size) \(weight.split == .rows ? "output" : "input") channels, no multiple of \(view.shards)"
    }
    return cases
  }
}
