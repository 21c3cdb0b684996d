defmodule Emily.Artifact.UnavailableError do
  @moduledoc """
  No archive exists: for this machine, for the variant asked for, or at the release's address.
  """

  alias Emily.Artifact.{Report, Targets}

  defexception [:variant, :target, :url]

  @type t :: %__MODULE__{
          variant: String.t() | nil,
          target: String.t() | nil,
          url: String.t() | nil
        }

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      headline(error),
      [
        {"url", error.url},
        {"variant", error.variant},
        {"target", error.target},
        {"existing",
         for(
           target <- Targets.names(),
           do: "#{target}: #{Enum.join(Targets.variants(target), ", ")}"
         )}
      ],
      next(error)
    )
  end

  defp headline(%{url: url}) when is_binary(url),
    do: "could not download Emily's native library: it is not published at this address"

  defp headline(%{target: nil}),
    do:
      "could not choose Emily's native library: there is none for this operating system and processor"

  defp headline(%{variant: nil, target: target}),
    do: "could not choose Emily's native library: there is none for the target #{target}"

  defp headline(error),
    do:
      "could not choose Emily's native library: there is no variant #{error.variant} for #{error.target}"

  defp next(%{url: nil, target: target, variant: variant}) when nil in [target, variant],
    do: "Build it: " <> build()

  defp next(_error) do
    "Choose one with `config :emily, variant: …` or EMILY_VARIANT, or build it: " <> build()
  end

  defp build, do: "`cargo xtask nif` in a checkout of #{Targets.home()}."
end
