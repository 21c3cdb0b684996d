defmodule Emily.Artifact.SidecarError do
  @moduledoc """
  A `.sha256` file that does not publish the checksum of its asset.
  """

  alias Emily.Artifact.Report

  defexception [:asset, :url, :expected, :actual]

  @type t :: %__MODULE__{
          asset: String.t(),
          url: String.t() | nil,
          expected: String.t(),
          actual: String.t()
        }

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not accept the checksum of #{error.asset}",
      [{"url", error.url}, {"expected", error.expected}, {"actual", error.actual}],
      "Run `mix compile` to try again; if it repeats, the release is damaged: report it, and do not go around it."
    )
  end
end
