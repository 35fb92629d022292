//! Colours: which of them the player uses, and how they look on a dark and on a light ground.
//!
//! Without a theme the player uses only the sixteen colours of the terminal's palette, which its
//! owner has chosen for its ground. Some palettes are chosen badly: yellow on white can hardly be
//! read, and faint text cannot be read at all. A theme has fixed colours out of the 256 that almost
//! every terminal has, each readable on its ground.
//!
//! A terminal can be asked for its ground only by a question that some never answer, so the player
//! does not ask. It takes the light theme by itself only if the terminal has put its colours into
//! `COLORFGBG`.

use ratatui::style::{Color, Modifier, Style};

/// Values of `--color`: `auto`, `never` or `16`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// Colours, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// No colours; bold and dim stay.
    Never,
    /// The sixteen colours of the terminal's own palette, even if `NO_COLOR` is set.
    #[value(name = "16")]
    Sixteen,
}

/// Values of `--theme`: `auto`, `dark` or `light`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ThemeChoice {
    /// Light if the terminal says so in `COLORFGBG`, otherwise the terminal's own palette.
    #[default]
    Auto,
    /// Colours for a dark ground.
    Dark,
    /// Colours for a light ground.
    Light,
}

/// What the environment says of the terminal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terminal {
    /// `NO_COLOR`: any value but the empty one turns colours off.
    pub(crate) no_color: Option<String>,
    /// `COLORFGBG`: the palette's numbers of the text and of the ground, such as `0;15`.
    pub(crate) fg_bg: Option<String>,
    /// `TERM`, such as `xterm-256color`.
    pub(crate) term: Option<String>,
    /// `COLORTERM`: set by terminals that have more colours than `TERM` says.
    pub(crate) color_term: Option<String>,
}

impl Terminal {
    /// The terminal of this process.
    pub(crate) fn of_environment() -> Terminal {
        let variable = |name| std::env::var(name).ok();
        Terminal {
            no_color: variable("NO_COLOR"),
            fg_bg: variable("COLORFGBG"),
            term: variable("TERM"),
            color_term: variable("COLORTERM"),
        }
    }

    /// Whether it has said that its ground is light: one of the two whites of the palette.
    fn is_light(&self) -> bool {
        let ground = self.fg_bg.as_deref().and_then(|both| both.rsplit(';').next());
        matches!(ground, Some("7" | "15"))
    }

    fn has_256(&self) -> bool {
        let has = |value: &Option<String>, word| value.as_ref().is_some_and(|v| v.contains(word));
        has(&self.term, "256color") || self.color_term.as_ref().is_some_and(|v| !v.is_empty())
    }
}

/// The colours that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Palette {
    /// None.
    None,
    /// The terminal's own sixteen.
    Sixteen,
    /// Those for a dark ground.
    Dark,
    /// Those for a light ground.
    Light,
}

/// A colour of the player: its role, which each palette fills in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hue {
    Red,
    Green,
    Yellow,
    Blue,
    Magenta,
    Cyan,
    /// For what stands back.
    Grey,
}

/// For each hue: its place in the terminal's palette, and its numbers on a dark and on a light
/// ground. Text that stands back has no place in the palette: it is faint.
const HUES: [(Hue, Option<Color>, u8, u8); 7] = [
    (Hue::Red, Some(Color::Red), 203, 124),
    (Hue::Green, Some(Color::Green), 77, 28),
    (Hue::Yellow, Some(Color::Yellow), 179, 94),
    (Hue::Blue, Some(Color::Blue), 75, 20),
    (Hue::Magenta, Some(Color::Magenta), 177, 91),
    (Hue::Cyan, Some(Color::Cyan), 80, 23),
    (Hue::Grey, None, 245, 242),
];

impl Palette {
    /// The palette for these flags in this terminal.
    pub(crate) fn of((color, theme): (ColorChoice, ThemeChoice), terminal: &Terminal) -> Palette {
        let is_off = terminal.no_color.as_ref().is_some_and(|value| !value.is_empty());
        match (color, theme) {
            (ColorChoice::Never, _) => Palette::None,
            (ColorChoice::Sixteen, _) => Palette::Sixteen,
            (ColorChoice::Auto, _) if is_off => Palette::None,
            (ColorChoice::Auto, ThemeChoice::Dark) => Palette::Dark,
            (ColorChoice::Auto, ThemeChoice::Light) => Palette::Light,
            (ColorChoice::Auto, ThemeChoice::Auto) if terminal.is_light() && terminal.has_256() => {
                Palette::Light
            }
            (ColorChoice::Auto, ThemeChoice::Auto) => Palette::Sixteen,
        }
    }

    /// The style of text in this hue.
    pub(crate) fn style(self, hue: Hue) -> Style {
        let plain = Style::default();
        let known = HUES.iter().find(|(known, ..)| *known == hue);
        let color = known.and_then(|(_, own, dark, light)| match self {
            Palette::None => None,
            Palette::Sixteen => *own,
            Palette::Dark => Some(Color::Indexed(*dark)),
            Palette::Light => Some(Color::Indexed(*light)),
        });
        match color {
            Some(color) => plain.fg(color),
            None if hue == Hue::Grey => plain.add_modifier(Modifier::DIM),
            None => plain,
        }
    }
}

/// The hue of text that has this colour; `None` for the terminal's own.
pub(crate) fn hue_of(color: Color) -> Option<Hue> {
    let is_it = |(_, own, dark, light): &&(Hue, Option<Color>, u8, u8)| match color {
        Color::Indexed(number) => [*dark, *light].contains(&number),
        color => *own == Some(color),
    };
    HUES.iter().find(is_it).map(|(hue, ..)| *hue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(no_color: &str, fg_bg: &str, term: &str) -> Terminal {
        Terminal {
            no_color: Some(no_color.to_owned()),
            fg_bg: Some(fg_bg.to_owned()),
            term: Some(term.to_owned()),
            color_term: None,
        }
    }

    #[test]
    fn colours_follow_the_flag_first_and_the_environment_second() {
        use {ColorChoice as C, ThemeChoice as T};
        let of = |color, theme, no_color| {
            Palette::of((color, theme), &terminal(no_color, "15;0", "xterm-256color"))
        };
        assert_eq!(Palette::of((C::Auto, T::Auto), &Terminal::default()), Palette::Sixteen);
        assert_eq!(of(C::Auto, T::Auto, ""), Palette::Sixteen);
        assert_eq!(of(C::Auto, T::Light, ""), Palette::Light);
        assert_eq!(of(C::Auto, T::Dark, ""), Palette::Dark);
        for theme in [T::Auto, T::Dark, T::Light] {
            assert_eq!(of(C::Auto, theme, "1"), Palette::None, "{theme:?}");
            assert_eq!(of(C::Never, theme, ""), Palette::None, "{theme:?}");
            assert_eq!(of(C::Sixteen, theme, "1"), Palette::Sixteen, "{theme:?}");
        }
    }

    #[test]
    fn a_ground_is_light_only_if_the_terminal_says_so_and_has_the_colours() {
        let of = |fg_bg, term| {
            let auto = (ColorChoice::Auto, ThemeChoice::Auto);
            Palette::of(auto, &terminal("", fg_bg, term))
        };
        assert_eq!(of("0;15", "xterm-256color"), Palette::Light);
        assert_eq!(of("0;default;15", "rxvt-unicode-256color"), Palette::Light);
        assert_eq!(of("0;15", "rxvt"), Palette::Sixteen);
        for dark in ["15;0", "7;0", "15;8", "0;115", "default;default", ""] {
            assert_eq!(of(dark, "xterm-256color"), Palette::Sixteen, "{dark}");
        }
        let mut more = terminal("", "0;15", "rxvt");
        more.color_term = Some("truecolor".to_owned());
        let auto = (ColorChoice::Auto, ThemeChoice::Auto);
        assert_eq!(Palette::of(auto, &more), Palette::Light);
    }

    #[test]
    fn the_flags_have_the_values_that_the_manual_names() {
        use clap::ValueEnum;
        fn names<T: ValueEnum>() -> Vec<String> {
            let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            values.map(|value| value.get_name().to_owned()).collect()
        }
        assert_eq!(names::<ColorChoice>(), ["auto", "never", "16"]);
        assert_eq!(names::<ThemeChoice>(), ["auto", "dark", "light"]);
    }

    /// Red, green and blue of a colour of the 256.
    fn rgb(number: u8) -> [f64; 3] {
        let level = |at: u8| if at == 0 { 0.0 } else { f64::from(55 + 40 * at) };
        match number {
            0..16 => panic!("{number} is the terminal's own"),
            16..232 => {
                let at = number - 16;
                [at / 36, at / 6 % 6, at % 6].map(level)
            }
            232.. => [f64::from(8 + 10 * (number - 232)); 3],
        }
    }

    /// The relative luminance of WCAG 2.
    fn luminance(rgb: [f64; 3]) -> f64 {
        let linear = rgb.map(|value| match value / 255.0 {
            low if low <= 0.03928 => low / 12.92,
            high => ((high + 0.055) / 1.055).powf(2.4),
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }

    /// Goal: every text can be read on its ground. WCAG 2 demands a contrast of 4.5.
    #[test]
    fn every_colour_can_be_read_on_its_ground() {
        for (hue, _, dark, light) in HUES {
            let on_black = (luminance(rgb(dark)) + 0.05) / 0.05;
            let on_white = 1.05 / (luminance(rgb(light)) + 0.05);
            assert!(4.5 <= on_black, "{hue:?} on black: {on_black:.1}");
            assert!(4.5 <= on_white, "{hue:?} on white: {on_white:.1}");
        }
    }

    #[test]
    fn a_colour_of_any_palette_leads_back_to_its_hue() {
        for palette in [Palette::Sixteen, Palette::Dark, Palette::Light] {
            for (hue, ..) in HUES {
                match palette.style(hue).fg {
                    Some(color) => assert_eq!(hue_of(color), Some(hue), "{palette:?}"),
                    None => assert_eq!((palette, hue), (Palette::Sixteen, Hue::Grey)),
                }
            }
        }
        assert!(HUES.iter().all(|(hue, ..)| Palette::None.style(*hue).fg.is_none()));
    }
}
