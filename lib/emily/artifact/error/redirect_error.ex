defmodule Emily.Artifact.RedirectError do
  @moduledoc """
  A redirect that is not followed. `chain` holds the addresses, from the first to the refused one.
  """

  alias Emily.Artifact.Report

  defexception [:reason, chain: []]

  @type t :: %__MODULE__{
          reason: :loop | :too_many | :insecure | :no_location,
          chain: [String.t()]
        }

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not download a file of Emily's release: #{cause(error.reason)}",
      [{"url", hd(error.chain)}, {"redirects", tl(error.chain)}],
      "Check EMILY_RELEASE_URL, open the address in a browser, and run `mix compile`."
    )
  end

  defp cause(:loop), do: "the server redirects in a circle"
  defp cause(:too_many), do: "the server redirects too often"
  defp cause(:insecure), do: "the server redirects to an address that is not https"
  defp cause(:no_location), do: "the server redirects to no address"
end
