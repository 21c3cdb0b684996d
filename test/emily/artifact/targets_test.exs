defmodule Emily.Artifact.TargetsTest do
  use ExUnit.Case, async: true

  alias Emily.Artifact
  alias Emily.Artifact.{Targets, UnavailableError}
  alias Emily.Settings

  test "every target's default variant exists for it, and every variant's targets exist" do
    for target <- Targets.names() do
      {:ok, entry} = Targets.fetch(target)
      assert entry["default_variant"] in Targets.variants(target)
      assert Targets.find(entry["os"], entry["arch"]) == target
    end

    for variant <- Targets.variants(), target <- Targets.variant!(variant)["targets"] do
      assert {:ok, %{"library" => library}} = Targets.fetch(target)
      assert library in Targets.variant!(variant)["files"]
      assert "manifest.json" in Targets.variant!(variant)["files"]
      assert Targets.floors(variant) != %{}
      assert is_list(Targets.system_libraries(variant, target))
    end
  end

  test "select/3 names the asset of the wanted or default variant" do
    assert {:ok, artifact} = Targets.select(nil, "linux-x86_64", "1.2.3")
    assert artifact.asset == "emily-nif-1.2.3-cpu-linux-x86_64.tar.gz"
    assert Artifact.sidecar(artifact) == artifact.asset <> ".sha256"
    assert Artifact.signature(artifact) == artifact.asset <> ".sha256.minisig"

    assert {:ok, %{variant: "cuda13", library: "libemily.so"}} =
             Targets.select("cuda13", "linux-x86_64")

    assert {:ok, %{variant: "aot", library: "libemily.dylib"}} =
             Targets.select(nil, "macos-arm64")
  end

  @choices """
  linux-arm64: cpu
              linux-x86_64: cpu, cuda12, cuda13
              macos-arm64: aot, jit\
  """

  test "select/3 refuses a machine without a target" do
    assert {:error, %UnavailableError{} = error} = Targets.select(nil, nil)

    assert Exception.message(error) == """
           could not choose Emily's native library: there is none for this operating system and processor

             existing  #{@choices}

           Build it: `cargo xtask nif` in a checkout of https://github.com/ausimian/emily.\
           """
  end

  test "select/3 refuses a variant that the target lacks" do
    assert {:error, %UnavailableError{} = error} = Targets.select("cuda12", "linux-arm64")

    assert Exception.message(error) == """
           could not choose Emily's native library: there is no variant cuda12 for linux-arm64

             variant   cuda12
             target    linux-arm64
             existing  #{@choices}

           Choose one with `config :emily, variant: …` or EMILY_VARIANT, or build it: `cargo xtask nif` in a checkout of https://github.com/ausimian/emily.\
           """
  end

  test "base_url/2 ends with a slash, and is the release's or the one that is set" do
    assert Targets.base_url(Settings.load(%{}, []), "1.2.3") ==
             "https://github.com/ausimian/emily/releases/download/1.2.3/"

    for url <- ["https://mirror.example/e", "https://mirror.example/e/"] do
      settings = Settings.load(%{"EMILY_RELEASE_URL" => url}, [])
      assert Targets.base_url(settings, "1.2.3") == "https://mirror.example/e/"
    end

    settings = Settings.load(%{"EMILY_RELEASE_URL" => "https://mirror.example/{version}"}, [])
    assert Targets.base_url(settings, "1.2.3") == "https://mirror.example/1.2.3/"
  end
end
