defmodule Emily.Doctor.Checks.Cache do
  @moduledoc """
  Whether the download cache belongs to the user, and its file system has room; and what interrupted
  installs left in it.
  """

  @behaviour Emily.Doctor.Check

  alias Emily.Artifact.{Cache, Console, Inventory}
  alias Emily.Doctor.Outcome

  # An archive and its unpacked files, for the largest variant, with room to spare.
  @least_free 2 * 1024 * 1024 * 1024

  @impl true
  def run(environment, _facts) do
    with {:ok, cache} <- environment.cache,
         :ok <- Cache.check_owner(cache, environment.user_id) do
      cache |> room(environment.free_bytes.(cache)) |> mention(cache)
    else
      {:error, %{reason: :no_home}} ->
        Outcome.error("there is no folder for it", "name one in EMILY_CACHE",
          details: [{"reason", "neither EMILY_CACHE, XDG_CACHE_HOME nor HOME is set"}]
        )

      {:error, %{reason: :owner} = error} ->
        Outcome.error(
          "it belongs to #{error.actual}, and this is #{error.expected}",
          "sudo chown -R $(id -un) #{error.path}",
          details: [{"path", error.path}]
        )

      {:error, error} ->
        Outcome.error("it cannot be read", "ls -ld #{error.path}",
          details: [{"path", error.path}, {"reason", "#{:file.format_error(error.reason)}"}]
        )
    end
  end

  defp room(cache, {:ok, free}) when free < @least_free do
    Outcome.warning(
      "only #{gibibytes(free)} free, expected at least #{gibibytes(@least_free)}",
      "free some space, or name another folder in EMILY_CACHE",
      details: [{"path", cache.folder}],
      facts: %{cache: cache}
    )
  end

  defp room(cache, free) do
    free = with {:ok, bytes} <- free, do: gibibytes(bytes) <> " free"
    state = if File.dir?(cache.folder), do: "", else: ", not made yet"
    free = if free == :unknown, do: "", else: ", " <> free
    Outcome.ok(cache.folder <> state <> free, facts: %{cache: cache})
  end

  # The next install of the same archive removes it; of others nobody would think.
  defp mention(outcome, cache) do
    case Inventory.of(cache) do
      {:ok, %{leftovers: [_ | _] = leftovers}} ->
        bytes = leftovers |> Enum.map(& &1.bytes) |> Enum.sum()
        text = "#{Console.megabytes(bytes)} MB, which `mix emily.clean --leftovers` removes"
        %{outcome | details: outcome.details ++ [{"interrupted", text}]}

      _none ->
        outcome
    end
  end

  defp gibibytes(bytes),
    do: :erlang.float_to_binary(bytes / 1024 ** 3, decimals: 1) <> " GiB"
end
