defmodule Mix.Tasks.Emily.Clean do
  @shortdoc "Lists and removes downloads that Emily keeps"

  @moduledoc """
  Lists what Emily's cache holds, and removes what is asked for.

      $ mix emily.clean                # lists; removes nothing
      $ mix emily.clean --old          # what is not of this project's version of Emily
      $ mix emily.clean --leftovers    # what interrupted installs left behind
      $ mix emily.clean --all          # everything

  All projects of a user share the cache. What is removed is downloaded again by whoever needs it;
  what is installed in a project stays, since it does not depend on the cache.

  Only files that Emily made are removed. A cache that belongs to another user is refused, and what
  an install is at work on is left to it. The next install also removes what an interrupted one
  left of the same archive.

  ## Options

    * `--old` - removes releases of other versions, and leftovers
    * `--leftovers` - removes what interrupted installs left behind
    * `--all` - removes everything
    * `--dry-run` - says what the other options would remove, and removes nothing

  `EMILY_CACHE` says where the cache is, if it is not in its usual place; see `Emily.Settings`.
  """

  use Mix.Task

  alias Emily.Artifact.{Cache, Console, Inventory, Targets}
  alias Emily.Settings

  @switches [old: :boolean, leftovers: :boolean, all: :boolean, dry_run: :boolean]
  @kinds [:old, :leftovers, :all]

  @impl Mix.Task
  def run(["--help"]), do: Mix.Task.run("help", ["emily.clean"])

  def run(args) do
    {kind, dry?} = parse!(args)

    with {:ok, cache} <- Cache.locate(settings()),
         {:ok, inventory} <- Inventory.of(cache) do
      if kind, do: clean(cache, inventory, kind, dry?), else: list(cache, inventory)
    else
      {:error, error} -> fail(error)
    end
  end

  defp parse!(args) do
    {options, rest, invalid} = OptionParser.parse(args, strict: @switches)
    wrong = Enum.map(invalid, &elem(&1, 0)) ++ rest
    kinds = for kind <- @kinds, options[kind], do: kind

    case {wrong, kinds} do
      {[], []} ->
        {nil, true}

      {[], [kind]} ->
        {kind, Keyword.get(options, :dry_run, false)}

      {[], kinds} ->
        Mix.raise(
          "expected one of --old, --leftovers and --all, got: #{Enum.map_join(kinds, " ", &"--#{&1}")}"
        )

      {wrong, _kinds} ->
        Mix.raise(
          "expected --old, --leftovers, --all or --dry-run, got: #{Enum.join(wrong, " ")}"
        )
    end
  end

  # Of a project's configuration nothing says where the cache is.
  defp settings do
    Settings.load(System.get_env(), [])
  rescue
    error in ArgumentError -> Mix.raise(Exception.message(error))
  end

  ## Listing

  defp list(cache, inventory) do
    info(cache.folder)
    rows(Enum.map(inventory.releases, &{name(&1.asset), &1.bytes, note(&1)}), "")
    rows(Enum.map(inventory.leftovers, &{name(&1.asset), &1.bytes, "interrupted"}), "")
    foreign(inventory)

    case inventory.releases ++ inventory.leftovers do
      [] -> info("Nothing is kept there.")
      entries -> info("#{megabytes(entries)} in all. Nothing was removed#{ways(inventory)}.")
    end
  end

  defp note(%{version: version}),
    do: if(version == Targets.version(), do: "this project's version", else: "another version")

  defp ways(inventory) do
    ways =
      if(old(inventory) != [], do: [{"--old", "other versions"}], else: []) ++
        if(inventory.leftovers != [], do: [{"--leftovers", "what was interrupted"}], else: []) ++
        [{"--all", "everything"}]

    ": " <> Enum.map_join(ways, ", ", fn {option, what} -> "`#{option}` removes #{what}" end)
  end

  defp foreign(%{foreign: []}), do: :ok

  defp foreign(%{foreign: paths}) do
    info("Not Emily's, and left alone:")
    Enum.each(paths, &info("  #{&1}"))
  end

  ## Removing

  defp clean(cache, inventory, kind, dry?) do
    chosen = chosen(inventory, kind)

    removed =
      if dry?, do: chosen, else: Enum.filter(chosen, &(remove(cache, &1) == :ok))

    rows(Enum.map(removed, &{name(&1.asset), &1.bytes, nil}), "")

    if kind == :all and not dry? do
      if removed == chosen, do: Inventory.remove_folders(cache)
      foreign(inventory)
    end

    verb = if dry?, do: "would be removed", else: "removed"

    case removed do
      [] when chosen == [] -> info("#{nothing(kind)} in #{cache.folder}.")
      _entries -> info("#{megabytes(removed)} #{verb} from #{cache.folder}.")
    end
  end

  defp chosen(inventory, :all), do: inventory.releases ++ inventory.leftovers
  defp chosen(inventory, :old), do: old(inventory) ++ inventory.leftovers
  defp chosen(inventory, :leftovers), do: inventory.leftovers

  defp old(inventory), do: Enum.reject(inventory.releases, &(&1.version == Targets.version()))

  defp nothing(:all), do: "Nothing is kept"
  defp nothing(:old), do: "Nothing but version #{Targets.version()} is kept"
  defp nothing(:leftovers), do: "Nothing was left behind"

  defp remove(cache, entry) do
    case Inventory.remove(cache, entry) do
      {:busy, pid} ->
        Mix.shell().error(
          "#{name(entry.asset)} is left to process #{pid}, which is at work on it"
        )

      {:error, error} ->
        fail(error)

      :ok ->
        :ok
    end
  end

  ## Saying

  defp rows(rows, indent) do
    width =
      rows
      |> Enum.map(fn {name, _bytes, _note} -> String.length(name) end)
      |> Enum.max(fn -> 0 end)

    for {name, bytes, note} <- rows do
      size = String.pad_leading(Console.megabytes(bytes), 8)
      note = if note, do: "  #{note}"
      info("#{indent}  #{String.pad_trailing(name, width)} #{size} MB#{note}")
    end
  end

  defp name(asset), do: String.replace_suffix(asset, ".tar.gz", "")

  defp megabytes(entries) do
    bytes = entries |> Enum.map(& &1.bytes) |> Enum.sum()
    "#{Console.megabytes(bytes)} MB"
  end

  defp info(text), do: Mix.shell().info(text)

  defp fail(error) do
    Mix.shell().error([:red, "error: ", :reset, Exception.message(error)])
    exit({:shutdown, 1})
  end
end
