// A picture with a row for each thing: bars from zero, or values with their intervals.

/// Named rows over one axis.
struct RowChart {
  /// What stands in a row.
  enum Mark {
    /// From the axis' beginning to a value.
    case bar(Double, series: Int)
    /// A value.
    case point(Double, series: Int)
    /// From one value to another.
    case interval(Double, Double)
  }

  /// One row.
  struct Row {
    /// Its name.
    var label: String
    /// What stands in it, bars below each other.
    var marks: [Mark]
    /// What is written to the right: the values.
    var note: String
  }

  private let title: String
  private let description: String
  private let axis: Chart.Axis
  private let rows: [Row]
  private let legend: [Drawing.Series]

  init(
    _ title: String, _ description: String, axis: Chart.Axis, _ rows: [Row],
    legend: [Drawing.Series] = []
  ) {
    (self.title, self.description, self.axis, self.rows) = (title, description, axis, rows)
    self.legend = legend
  }

  private static let barHeight = 11.0

  /// The picture.
  var svg: String {
    let left = 20 + (rows.map { Drawing.textWidth($0.label) }.max() ?? 0)
    let right = 24 + (rows.map { Drawing.textWidth($0.note) }.max() ?? 0)
    let (start, width) = (left, max(Drawing.width - left - right, 80))
    let top = legend.isEmpty ? 12.0 : 36.0
    func px(_ value: Double) -> Double { start + width * axis.scale.place(value) }
    var (body, y) = ("", top)
    for row in rows {
      let bars = row.marks.count { if case .bar = $0 { true } else { false } }
      let height = max(22, Double(bars) * RowChart.barHeight + 10)
      let middle = y + height / 2
      body += Drawing.text(left - 10, middle + 4.5, row.label, "end")
      body += Drawing.text(start + width + 14, middle + 4.5, row.note)
      var place = middle - Double(bars) * RowChart.barHeight / 2
      for mark in row.marks {
        switch mark {
        case .bar(let value, let series):
          body += Drawing.box(
            start, place, px(value) - start, RowChart.barHeight - 2, "f\(series)",
            title: "\(row.label): \(row.note)")
          place += RowChart.barHeight
        case .point(let value, let series):
          body += Drawing.mark(px(value), middle, series: series, title: "\(row.label): \(row.note)")
        case .interval(let low, let high):
          body += Drawing.line(px(low), middle, px(high), middle, "axis")
          for end in [low, high] { body += Drawing.line(px(end), middle - 5, px(end), middle + 5, "axis") }
        }
      }
      y += height
    }
    var grid = ""
    var free = -Double.infinity
    for tick in axis.scale.ticks {
      grid += Drawing.line(px(tick.value), top, px(tick.value), y, "grid")
      let half = Drawing.textWidth(tick.label) / 2
      guard px(tick.value) - half > free else { continue }
      free = px(tick.value) + half + 8
      grid += Drawing.text(px(tick.value), y + 18, tick.label, "soft middle")
    }
    grid += Drawing.line(start, y, start + width, y, "axis")
    grid += Drawing.text(start + width / 2, y + 40, axis.title, "soft middle")
    if !legend.isEmpty { grid += Drawing.legend(legend, x: start, y: 20) }
    return Drawing.picture(title, description, height: y + 50, grid + body)
  }
}
