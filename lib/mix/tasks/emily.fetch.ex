defmodule Mix.Tasks.Emily.Fetch do
  @shortdoc "Downloads Emily's native library ahead of time"

  @moduledoc """
  Downloads and verifies native libraries without installing them: for other machines, for images of
  containers, and for machines without a network.

      $ mix emily.fetch                                    # what this project installs here
      $ mix emily.fetch --target linux-arm64               # for another machine
      $ mix emily.fetch --variant cuda12 --variant cuda13
      $ mix emily.fetch --all --into vendor/emily

  The signed checksum is asked for each time, and the archive is downloaded only if the cache has no
  such bytes. With `--into`, the archives come to stand in a folder with what vouches for them, as a
  release's address serves them: a machine without a network installs from there with

      $ EMILY_RELEASE_URL=file:///path/to/vendor/emily mix compile

  which verifies everything again.

  ## Options

    * `--variant V` - a variant, instead of the one that is configured, or the target's default; may
      be given several times
    * `--target T` - a target, instead of this machine's; may be given several times
    * `--all` - every variant for every target, or for those of `--target`
    * `--into DIR` - also puts the files into a folder, which is made if need be

  The exit status is 1 if any archive could not be had. `Emily.Settings` lists the variables and the
  configuration that choose the cache, the release and the way to it.
  """

  use Mix.Task

  alias Emily.Artifact.{Archive, Console, Fetch, Host, Keyring, LocalFile, Manifest, Targets}
  alias Emily.Artifact.{Shelf, UnavailableError}
  alias Emily.Settings

  @switches [variant: :keep, target: :keep, all: :boolean, into: :string]

  @impl Mix.Task
  def run(["--help"]), do: Mix.Task.run("help", ["emily.fetch"])

  def run(args) do
    options = parse!(args)
    settings = settings()

    with {:ok, keyring} <- Keyring.release(),
         {:ok, artifacts} <- artifacts(options, settings) do
      failed = Enum.reject(artifacts, &(fetch(&1, options, settings, keyring) == :ok))
      if failed != [], do: exit({:shutdown, 1})
      if folder = options[:into], do: info(way(folder))
    else
      {:error, error} -> fail(error)
    end
  end

  defp parse!(args) do
    case OptionParser.parse(args, strict: @switches) do
      {options, [], []} ->
        if options[:all] && options[:variant],
          do: Mix.raise("expected --variant or --all, got: both")

        options

      {_options, rest, invalid} ->
        got = Enum.map(invalid, &shown/1) ++ rest

        Mix.raise(
          "expected --variant V, --target T, --all and --into DIR, got: #{Enum.join(got, " ")}"
        )
    end
  end

  # An option without its value has none to show.
  defp shown({name, nil}), do: name
  defp shown({name, value}), do: "#{name} #{value}"

  # A setting of the wrong type is a mistake to name, and no bug to trace.
  defp settings do
    Settings.load()
  rescue
    error in ArgumentError -> Mix.raise(Exception.message(error))
  end

  ## What is wanted

  defp artifacts(options, settings) do
    targets =
      given(options, :target, if(options[:all], do: Targets.names(), else: [Host.target()]))

    targets
    |> Enum.flat_map(fn target ->
      for variant <- variants(options, settings, target), do: {variant, target}
    end)
    |> Enum.uniq()
    |> select([])
  end

  defp given(options, key, default) do
    case Keyword.get_values(options, key) do
      [] -> default
      values -> values
    end
  end

  defp variants(_options, _settings, nil), do: [nil]

  defp variants(options, settings, target) do
    existing = Targets.variants(target)

    cond do
      options[:all] && existing != [] ->
        existing

      # What is configured is meant for this machine, and need not exist for another.
      settings.variant in existing or target == Host.target() ->
        given(options, :variant, [settings.variant])

      true ->
        given(options, :variant, [nil])
    end
  end

  defp select([], artifacts), do: {:ok, Enum.reverse(artifacts)}

  defp select([{variant, target} | rest], artifacts) do
    case Targets.select(variant, target) do
      {:ok, artifact} -> select(rest, [artifact | artifacts])
      {:error, %UnavailableError{} = error} -> {:error, error}
    end
  end

  ## Fetching

  defp fetch(artifact, options, settings, keyring) do
    shell = Mix.shell()

    console =
      Console.new(
        draw: Console.terminal(),
        info: &shell.info/1,
        warning: &shell.error([:yellow, "warning: ", :reset, &1])
      )

    notify = &Console.show(console, &1)
    fetch = %Fetch{artifact: artifact, settings: settings, keyring: keyring, notify: notify}

    result =
      Fetch.with_lock(settings, artifact, notify, fn cache ->
        with {:ok, path, release} <- Fetch.run(fetch, cache),
             {:ok, manifest, _text} <- Archive.manifest(path, artifact),
             {:ok, folder} <- shelve(path, release, artifact, options[:into] || cache.root, cache) do
          {:ok, {path, manifest, folder}}
        end
      end)

    Console.end_bar(console)

    case result do
      {:ok, {path, manifest, folder}} -> info(done(artifact, path, manifest, folder))
      {:error, error} -> report(error)
    end
  end

  defp shelve(_path, _release, _artifact, root, %{root: root}), do: {:ok, root}

  defp shelve(path, release, artifact, folder, _cache) do
    with :ok <- Shelf.put(folder, artifact, path, release), do: {:ok, Path.expand(folder)}
  end

  defp done(artifact, path, manifest, folder) do
    size = Console.megabytes(File.stat!(path).size)
    "Fetched #{artifact.asset}, #{size} MB#{needs(manifest)}, into #{folder}"
  end

  # What the other machine must have, since only that one can be asked.
  defp needs(%Manifest{requires: requires}) do
    floors =
      for {label, version} <- [{"glibc", requires.glibc}, {"macOS", requires.macos}],
          version,
          do: "#{label} #{version}"

    if floors != [], do: ", for #{Enum.join(floors, " and ")} or newer"
  end

  defp way(folder), do: "Install from there with EMILY_RELEASE_URL=#{LocalFile.address(folder)}"

  defp info(text), do: Mix.shell().info(text)

  # Most errors are read by those who compile, and name that command.
  defp report(error) do
    text = String.replace(Exception.message(error), "`mix compile`", "`mix emily.fetch`")
    Mix.shell().error([:red, "error: ", :reset, text])
    :failed
  end

  defp fail(error) do
    report(error)
    exit({:shutdown, 1})
  end
end
