defmodule Emily.Artifact.UnfitHostError do
  @moduledoc """
  This machine lacks something that the native library needs.

  `problems` are sentences, one for each thing that is missing.
  """

  alias Emily.Artifact.{Report, Targets}

  defexception [:asset, problems: []]

  @type t :: %__MODULE__{asset: String.t(), problems: [String.t()]}

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not install #{error.asset}: this machine is not fit for it",
      [{"missing", error.problems}],
      "Mend what is missing and run `mix compile`, or build for this machine: `cargo xtask nif` in a checkout of #{Targets.home()}."
    )
  end
end
